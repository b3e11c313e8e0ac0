//! What reaches the operator's terminal: nothing that agents write into files and names controls a
//! terminal or hides in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_wire::log_error::LogError;
use gatevisor_wire::tai::Tai64n;
use serde_json::{Value, json};

use crate::home::{Home, Ran};

/// Everything that could mislead a terminal or a reader, in one text that JSON and file names can
/// hold.
const EVIL: &str = "\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\u{9b}31m\u{85}\r\ngatevisor: forged\u{7f}\u{8}\
    \u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{feff}\u{ad}\u{115f}\u{1160}\u{3164}\u{ffa0}\u{2028}\u{2029}\u{e0041}\u{fe00}";

/// Returns whether a character must not be shown to people. Tabs and line ends may.
fn is_harmful(c: char) -> bool {
    let is_seen = !EVIL.contains(c) || c.is_ascii_graphic() || c == ' ';
    !is_seen && c != '\n' || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[track_caller]
fn is_safe(what: &str, ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        assert!(!text.contains(is_harmful), "{what}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("gatevisor: forged")), "{what}: {text}");
    }
}

/// Returns a home in which every text that an agent may write is the evil one.
fn evil() -> Home {
    let home = Home::with_script("exec sleep 1000", &[]);
    let state = json!({
        "desired_state": EVIL, "gateway_state": EVIL, "desired_reason": EVIL, "desired_at": EVIL,
        "desired_by": { "uid": 7, "user": EVIL, "command": EVIL, "pid": 9, "state": EVIL },
    });
    home.plant_state("coder", state.to_string());
    home.plant_state("writer", format!("{{\"{EVIL}\": "));
    home.plant(EVIL);
    let slot = home.slot("coder").path().to_owned();
    fs::create_dir_all(slot.join("log")).unwrap();
    fs::create_dir_all(slot.join("data")).unwrap();
    let reason = EVIL.replace(|c: char| c.is_control(), "");
    let log_error = LogError { since: Tai64n::from_unix(1_795_217_645, 5), reason };
    fs::write(slot.join("log/error"), log_error.encode()).unwrap();
    fs::write(slot.join("data/start-error"), EVIL).unwrap();
    fs::create_dir_all(home.scandir().join(EVIL.replace('\n', ""))).unwrap();
    let log = home.log_file("coder");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(log, format!("2026-11-20 10:00:00.000000000  line {}\n", evil_line())).unwrap();
    home
}

/// Returns the part of it that a line of a log can hold.
fn evil_line() -> String {
    EVIL.replace('\n', "")
}

const LINES: [&str; 14] = [
    "status",
    "status coder",
    "gateway status coder writer",
    "gateway status --all",
    "gateway status coder",
    "gateway status writer",
    "profile show coder",
    "profile show writer",
    "profile list",
    "logs coder",
    "logs coder writer",
    "doctor",
    "reconcile --dry-run",
    "wait coder --up --timeout 0",
];

#[test]
fn nothing_that_an_agent_writes_commands_a_terminal_or_hides_in_it() {
    let home = evil();
    let mut seen = 0;
    for line in LINES {
        let ran = home.says(line);
        is_safe(line, &ran);
        seen += usize::from(format!("{}{}", ran.out, ran.err).contains("\\u{202e}"));
    }
    assert!(seen >= 8, "it is shown, not left out: {seen}");
}

#[test]
fn json_says_the_same_without_a_character_that_a_terminal_obeys() {
    let home = evil();
    let mut all = String::new();
    for line in LINES {
        let ran = home.says(&format!("--json {line}"));
        is_safe(line, &ran);
        for object in ran.out.lines() {
            serde_json::from_str::<Value>(object).unwrap_or_else(|error| panic!("{line}: {error}: {object}"));
        }
        all.push_str(&ran.out);
    }
    let report = home.report("coder");
    assert_eq!((&report["desired_state"], &report["desired_reason"]), (&EVIL.into(), &EVIL.into()));
    assert!(all.contains("\\u202e") && all.contains("\\u001b]52;c;cm0=\\u0007"), "{all}");
}

#[test]
fn arguments_are_repeated_to_whoever_gave_them_without_their_commands() {
    let home = evil();
    let bytes = [EVIL.as_bytes(), b"\xff\x9b"].concat();
    for evil in [OsStr::new(EVIL), OsStr::from_bytes(&bytes)] {
        for before in [
            &["status"][..],
            &["logs"],
            &["logs", "-n"],
            &["logs", "--grep"],
            &["logs", "--since"],
            &["wait", "--timeout"],
            &["--profile"],
            &["--agent"],
            &["--home"],
            &["s6"],
            &["s6", "s6-svstat"],
            &["s6", "s6-svc", "-u"],
            &["supervise"],
            &[],
        ] {
            let words = before.iter().map(OsStr::new).chain([evil]);
            is_safe(&format!("{before:?}"), &home.run(words));
        }
    }
    let ran = home.run(["--colour\u{1b}[31m=\u{202e}"]);
    assert!(ran.code == Some(100) && ran.err.contains("'--colour\\u{1b}[31m'"), "{ran:?}");
}

#[test]
fn a_pipe_gets_what_a_terminal_gets_unless_the_bytes_are_asked_for() {
    let home = evil();
    // With `docker exec` without `-t`, and with ssh, there is a terminal behind the pipe.
    let shown = home.says("logs coder").ok();
    assert!(shown.contains("line \\u{1b}]52;c;cm0=\\u{7}\\u{1b}[2J"), "{shown:?}");
    let raw = home.says("logs --raw coder").ok();
    assert!(raw.contains(&evil_line()), "{raw:?}");
}

/// Files that may name the streams, or write to them unescaped, each with the reason.
const EXCEPTIONS: [&str; 11] = [
    "crates/gatevisor/src/logs/mod.rs",
    "crates/gatevisor/src/out/mod.rs",
    "crates/gatevisor/src/out/page.rs",
    "crates/gatevisor/src/top/full_screen.rs",
    "crates/init/src/stderr_log.rs",
    "crates/logd/src/daemon/mod.rs",
    "crates/logd/src/daemon/standalone.rs",
    "crates/logd/src/script/engine.rs",
    "crates/slot/src/os.rs",
    "crates/term/src/relay/user.rs",
    "crates/term/src/stream.rs",
];

#[test]
fn nothing_is_written_to_people_but_through_the_printer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found: Vec<String> = sources(&root.join("crates"))
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            code.lines().filter(|line| !line.trim_start().starts_with("//")).any(names_a_stream)
        })
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    found.sort();
    assert_eq!(found, EXCEPTIONS, "clippy.toml says what to use instead");
    // Only one place asks for unescaped lines of a log.
    let raw = sources(&root.join("crates/gatevisor"));
    let raw: Vec<&PathBuf> =
        raw.iter().filter(|path| fs::read_to_string(path).unwrap().contains("page.raw(")).collect();
    assert!(raw.len() == 1 && raw[0].ends_with("logs/show.rs"), "{raw:?}");
}

fn names_a_stream(line: &str) -> bool {
    let names = ["io::stdout(", "io::stderr(", "stdio::stdout(", "stdio::stderr(", "unescaped_std"];
    let descriptors = ["stdout_fd(", "stderr_fd(", "own_stdout(", "own_stderr("];
    let macros = [" print!(", " println!(", " eprint!(", " eprintln!("];
    names.iter().chain(&descriptors).chain(&macros).any(|name| line.contains(name))
}

/// Returns every source file below a directory, except tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("examples") {
            found.extend(sources(&path));
        } else if path.extension() == Some(OsStr::new("rs")) {
            found.push(path);
        }
    }
    found
}
