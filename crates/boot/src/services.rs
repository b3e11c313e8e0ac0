//! The services of an agent besides its gateways, which the environment switches on.
//!
//! *Lives here:* the content of their slots, and publishing them in a scandir without a supervisor.
//! *Does not live here:* the slots of gateways (`gatevisor_gateways::slots`).
//!
//! **Source:** docs/design/behaviour.md, *Static services*.

use std::ffi::OsStr;
use std::path::Path;

use gatevisor_gateways::agent::{StaticService, says_yes};
use gatevisor_gateways::slots::{self, SlotFile, SlotFiles};
use gatevisor_gateways::topology::ProgramVersion;
use gatevisor_slot::{ServiceFile, Stderr, render_service};
use gatevisor_wire::files;

/// The word of a command that stands for this program.
const OURSELVES: &str = "gatevisor";

/// Returns whether the environment switches a service on.
pub fn is_on<'v>(service: &StaticService, variable: &dyn Fn(&str) -> Option<&'v OsStr>) -> bool {
    service.switch.as_ref().is_none_or(|name| says_yes_to(variable, name))
}

/// Returns the files of a service's slot. If the service is switched off, it has a `down` file.
/// `version` is the agent's, if it was found.
///
/// # Errors
/// A sentence for people: the `run` of the service cannot be written.
pub fn render<'v>(
    service: &StaticService,
    interpreter: &Path,
    version: Option<&ProgramVersion>,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Result<SlotFiles, String> {
    let word = |word: &String| {
        if word == OURSELVES { interpreter.display().to_string() } else { word.clone() }
    };
    let flags = flags(service, variable).filter(|_| service.knows_flags(version));
    let flags = flags.map(|(_, flag)| flag.clone());
    let mut file = ServiceFile::new(service.command.iter().map(word).chain(flags).collect());
    file.directory.clone_from(&service.directory);
    file.environment.clone_from(&service.environment);
    file.stderr = Stderr::Inherit;
    let comment = format!("{}. Gatevisor writes this file again at every boot.", service.name);
    let run = render_service(interpreter, &file, &comment)
        .map_err(|error| format!("cannot make the service `{}`: {error}", service.name))?;
    let plain = |path, bytes: &[u8]| SlotFile { path, mode: 0o644, bytes: bytes.to_vec() };
    let mut all = vec![plain("type", b"longrun\n"), SlotFile { path: files::RUN, mode: 0o755, bytes: run }];
    if !is_on(service, variable) {
        all.push(plain(files::DOWN, b""));
    }
    Ok(SlotFiles(all))
}

fn says_yes_to<'v>(variable: &dyn Fn(&str) -> Option<&'v OsStr>, name: &str) -> bool {
    variable(name).and_then(OsStr::to_str).is_some_and(says_yes)
}

/// Returns the arguments that variables ask for, with the variables' names.
pub fn flags<'s, 'v>(
    service: &'s StaticService,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> impl Iterator<Item = (&'s String, &'s String)> {
    service.flags.iter().filter(|(name, _)| says_yes_to(variable, name))
}

/// Returns a sentence for each variable that asks for an argument which the agent does not know.
fn unknown_flags<'v>(
    service: &StaticService,
    version: Option<&ProgramVersion>,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Vec<String> {
    if service.knows_flags(version) {
        return Vec::new();
    }
    let why = version.map_or_else(
        || "the version of the agent was not found".to_owned(),
        |version| format!("version {version} of the agent has no such argument"),
    );
    let sentence = |(name, flag): (&String, &String)| {
        format!(
            "the service `{}` is started without `{flag}`, although `{name}` asks for it: {why}",
            service.name
        )
    };
    flags(service, variable).map(sentence).collect()
}

/// Publishes the slots of all services, and returns what went wrong, and what could not be done.
pub fn publish<'v>(
    services: &[StaticService],
    scandir: &Path,
    interpreter: &Path,
    version: Option<&ProgramVersion>,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Vec<String> {
    let one = |service: &StaticService| {
        let files = render(service, interpreter, version, variable)?;
        match slots::replace(scandir, &service.name, &files) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("cannot make the service `{}`: {error}", service.name)),
        }
    };
    let ignored = services.iter().flat_map(|service| unknown_flags(service, version, variable));
    services.iter().filter_map(|service| one(service).err()).chain(ignored).collect()
}

#[cfg(test)]
mod tests {
    use super::{render, unknown_flags};
    use gatevisor_gateways::agent::{AgentDefinition, StaticService};
    use gatevisor_gateways::slots::SlotFiles;
    use gatevisor_gateways::topology::ProgramVersion;
    use std::ffi::OsStr;
    use std::path::Path;

    /// Variables and their values.
    type Variables<'a> = [(&'a str, &'static str)];

    fn service(name: &str) -> StaticService {
        let services = AgentDefinition::built_in().unwrap().container.services;
        services.into_iter().find(|service| service.name == name).unwrap()
    }

    fn lookup(set: &Variables<'_>, name: &str) -> Option<&'static OsStr> {
        set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsStr::new(*value))
    }

    fn files(name: &str, version: &str, set: &Variables<'_>) -> SlotFiles {
        let version = ProgramVersion::find(version);
        let interpreter = Path::new("/usr/local/bin/gatevisor");
        render(&service(name), interpreter, version.as_ref(), &|name| lookup(set, name)).unwrap()
    }

    fn text(files: &SlotFiles, path: &str) -> Option<String> {
        let file = files.0.iter().find(|file| file.path == path)?;
        Some(String::from_utf8(file.bytes.clone()).unwrap())
    }

    fn slot(name: &str, set: &Variables<'_>) -> (String, bool) {
        let files = files(name, "0.19.0", set);
        (text(&files, "run").unwrap(), text(&files, "down").is_some())
    }

    #[test]
    fn the_dashboard_is_up_for_exactly_seven_words() {
        for word in ["1", "true", "TRUE", "True", "yes", "YES", "Yes"] {
            assert!(!slot("dashboard", &[("HERMES_DASHBOARD", word)]).1, "{word}");
        }
        for word in ["", "0", "on", "tRUE", " 1", "y"] {
            assert!(slot("dashboard", &[("HERMES_DASHBOARD", word)]).1, "{word}");
        }
        assert!(slot("dashboard", &[]).1);
    }

    #[test]
    fn the_dashboard_is_insecure_only_where_that_is_said() {
        let host = ("HERMES_DASHBOARD_HOST", "0.0.0.0");
        assert!(!slot("dashboard", &[host]).0.contains("--insecure"));
        assert!(slot("dashboard", &[("HERMES_DASHBOARD_INSECURE", "1")]).0.contains("--insecure"));
    }

    #[test]
    fn the_dashboard_of_later_versions_is_never_insecure_and_that_is_said() {
        let asks = [("HERMES_DASHBOARD_INSECURE", "1")];
        let said = |version: &str, set: &Variables<'_>| {
            let version = ProgramVersion::find(version);
            unknown_flags(&service("dashboard"), version.as_ref(), &|name| lookup(set, name))
        };
        for (version, is_given) in [("0.19.0", true), ("0.20.9", true), ("0.21.0", false), ("", false)] {
            let run = text(&files("dashboard", version, &asks), "run").unwrap();
            assert_eq!(run.contains("--insecure"), is_given, "{version}");
            assert_eq!(said(version, &asks).is_empty(), is_given, "{version}");
            assert!(said(version, &[]).is_empty(), "{version}");
        }
        let sentence = "the service `dashboard` is started without `--insecure`, although \
            `HERMES_DASHBOARD_INSECURE` asks for it: version 0.22.2 of the agent has no such argument";
        assert_eq!(said("0.22.2", &asks), [sentence]);
    }

    #[test]
    fn the_service_that_does_nothing_is_this_program_and_always_up() {
        let (run, down) = slot("main-hermes", &[]);
        assert!(run.contains("\"/usr/local/bin/gatevisor\", \"idle\""), "{run}");
        assert!(!down);
    }
}
