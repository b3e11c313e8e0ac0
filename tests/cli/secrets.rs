//! A secret stays where it was given: no command line, no log, no file and no message of ours has
//! it.

use std::fs;
use std::path::Path;

use crate::home::Home;
use crate::support::processes;

const SECRET: &str = "s3cr3t-0f-a-t0ken";

/// Returns the regular files below a directory that hold the secret.
fn holding(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path()));
        } else if kind.is_file()
            // The watchers write files under temporary names, which go.
            && let Ok(bytes) = fs::read(entry.path())
            && bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn what_the_environment_and_a_profile_hold_is_on_no_command_line_and_in_nothing_that_is_written_or_said() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.set("A_TOKEN", SECRET);
    home.profile("coder");
    home.profile("broken");
    for name in ["coder", "broken"] {
        fs::write(home.profile_dir(name).join(".env"), format!("B_TOKEN={SECRET}\n")).unwrap();
    }
    home.want_running("coder");
    let said = home.up();
    home.until_state("coder", "up");
    // A start that fails says why.
    let run = home.slot("broken").path().join("run");
    let text = fs::read_to_string(&run).unwrap();
    fs::write(&run, text.replacen("command = [", "command = [\"${A_TOKEN}${NOT_SET}\", ", 1)).unwrap();
    let failed = home.says("gateway start broken");
    assert!(failed.err.contains("NOT_SET"), "{failed:?}");
    let all = [
        said,
        format!("{failed:?}"),
        format!("{:?}", home.says("status --json")),
        format!("{:?}", home.says("gateway status broken")),
        format!("{:?}", home.says("logs coder broken")),
        format!("{:?}", home.says("profile show coder")),
        home.running().err(),
    ];
    assert!(!all.concat().contains(SECRET), "{all:?}");
    // It is tried again and again, and each attempt has processes and files that go again.
    home.says("gateway stop broken").ok();
    let lines: Vec<Vec<u8>> = processes::children(home.running().pid())
        .into_iter()
        .chain([home.running().pid()])
        // A child of a moment may have ended.
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok())
        .collect();
    assert!(lines.len() >= 3, "the supervisor, a log daemon and a gateway");
    assert!(!lines.concat().windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    assert_eq!(holding(home.path()), [".env", ".env"]);
}
