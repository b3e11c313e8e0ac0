//! Every entry of the protocol has a case, by name.

/// The entries and their cases; `scripts/conformance.sh` puts them into the document.
const ENTRIES: &str = include_str!("entries.txt");

fn text_of(chapter: &str) -> &'static str {
    match chapter {
        "isolation" => include_str!("isolation.rs"),
        "control" => include_str!("control.rs"),
        "deaths" => include_str!("deaths.rs"),
        "locks" => include_str!("locks.rs"),
        "loggers" => include_str!("loggers.rs"),
        "readiness" => include_str!("readiness.rs"),
        "scandir" => include_str!("scandir.rs"),
        "signals" => include_str!("signals.rs"),
        "small_files" => include_str!("small_files.rs"),
        "states" => include_str!("states.rs"),
        "tools" => include_str!("tools.rs"),
        other => panic!("there is no chapter `{other}`"),
    }
}

#[test]
fn every_entry_of_the_protocol_has_a_case_that_is_there() {
    for line in ENTRIES.lines().filter(|line| !line.starts_with('#')) {
        let (entry, cases) = line.split_once(" | ").expect("an entry and its cases");
        let (chapter, cases) = cases.split_once(": ").expect("a chapter and its cases");
        for case in cases.split(", ") {
            assert!(
                text_of(chapter).contains(&format!("fn {case}(pairing)")),
                "{entry}: no case {chapter}::{case}"
            );
        }
    }
}

#[test]
fn every_small_file_is_an_entry() {
    use gatevisor_wire::files;
    for file in [
        files::RUN,
        files::FINISH,
        files::DOWN,
        files::LOG,
        files::NOTIFICATION_FD,
        files::FLAG_NEWPIDNS,
        files::LOCK_FD,
        files::FLAG_TIMEOUT_KILLPG,
        files::EVENT,
        files::SUPERVISE,
        files::STATUS,
        files::DEATH_TALLY,
    ] {
        assert!(ENTRIES.lines().any(|line| line.starts_with(file)), "{file} is no entry");
    }
}
