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
use gatevisor_slot::{ServiceFile, Stderr, render_service};
use gatevisor_wire::files;

/// The word of a command that stands for this program.
const OURSELVES: &str = "gatevisor";

/// Returns the files of a service's slot. If the service is switched off, it has a `down` file.
///
/// # Errors
/// A sentence for people: the `run` of the service cannot be written.
pub fn render<'v>(
    service: &StaticService,
    interpreter: &Path,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Result<SlotFiles, String> {
    let yes = |name: &String| variable(name).and_then(OsStr::to_str).is_some_and(says_yes);
    let word = |word: &String| {
        if word == OURSELVES { interpreter.display().to_string() } else { word.clone() }
    };
    let flags = service.flags.iter().filter(|(name, _)| yes(name)).map(|(_, flag)| flag.clone());
    let mut file = ServiceFile::new(service.command.iter().map(word).chain(flags).collect());
    file.directory.clone_from(&service.directory);
    file.environment.clone_from(&service.environment);
    file.stderr = Stderr::Inherit;
    let comment = format!("{}. Gatevisor writes this file again at every boot.", service.name);
    let run = render_service(interpreter, &file, &comment)
        .map_err(|error| format!("cannot make the service `{}`: {error}", service.name))?;
    let plain = |path, bytes: &[u8]| SlotFile { path, mode: 0o644, bytes: bytes.to_vec() };
    let mut all = vec![plain("type", b"longrun\n"), SlotFile { path: files::RUN, mode: 0o755, bytes: run }];
    if !service.switch.as_ref().is_none_or(yes) {
        all.push(plain(files::DOWN, b""));
    }
    Ok(SlotFiles(all))
}

/// Publishes the slots of all services, and returns what went wrong.
pub fn publish<'v>(
    services: &[StaticService],
    scandir: &Path,
    interpreter: &Path,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Vec<String> {
    let one = |service: &StaticService| {
        let files = render(service, interpreter, variable)?;
        match slots::replace(scandir, &service.name, &files) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("cannot make the service `{}`: {error}", service.name)),
        }
    };
    services.iter().filter_map(|service| one(service).err()).collect()
}

#[cfg(test)]
mod tests {
    use super::render;
    use gatevisor_gateways::agent::AgentDefinition;
    use std::ffi::OsStr;
    use std::path::Path;

    fn slot(name: &str, set: &[(&str, &'static str)]) -> (String, bool) {
        let agent = AgentDefinition::built_in().unwrap();
        let service = agent.container.services.iter().find(|service| service.name == name).unwrap();
        let lookup =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsStr::new(*value));
        let files = render(service, Path::new("/usr/local/bin/gatevisor"), &lookup).unwrap().0;
        let run = files.iter().find(|file| file.path == "run").unwrap();
        let down = files.iter().any(|file| file.path == "down");
        (String::from_utf8(run.bytes.clone()).unwrap(), down)
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
    fn the_service_that_does_nothing_is_this_program_and_always_up() {
        let (run, down) = slot("main-hermes", &[]);
        assert!(run.contains("\"/usr/local/bin/gatevisor\", \"idle\""), "{run}");
        assert!(!down);
    }
}
