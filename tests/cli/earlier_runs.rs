//! A log outlives its supervisor: lines of an earlier run are never taken for those of this one.

use std::fs;

use crate::home::{Home, until_file};

/// What only the earlier run writes.
const EARLIER: &str = "401 unauthorized: the earlier run";

/// Ends once, so that one death is known of a gateway that is up. Its lines have been stamped by
/// then: the next run begins at once, and what is stamped after that counts as written by it.
const ONCE: &str = "test -e \"$2/once\" && exec sleep 1000; touch \"$2/once\"; \
    until grep -qFf \"$GATEVISOR_TEST_HOME/words\" \"$GATEVISOR_TEST_HOME/home/logs/gateways/coder/current\"; \
    do sleep 0.05; done; exit 5";

/// Returns a home whose gateway wrote this in an earlier run of its supervisor, and writes nothing
/// now. In both runs it ends at once and then waits for a minute, or stays up.
fn after_an_earlier_run(end: &str) -> Home {
    let script = format!("cat \"$GATEVISOR_TEST_HOME/words\"; {end}");
    let patient = "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]";
    let mut home = Home::with_script(&script, &[("[gateway.exit-meanings]", patient)]);
    fs::write(home.beside("words"), format!("{EARLIER}\n")).unwrap();
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_logged("coder", EARLIER);
    home.down();
    let _ = fs::remove_file(home.profile_dir("coder").join("once"));
    fs::write(home.beside("words"), "now\n").unwrap();
    home.up_quietly();
    until_file(&home.log_file("coder"), "the run of now", |text| text.contains("now"));
    home
}

#[test]
fn what_a_gateway_that_fails_wrote_in_an_earlier_run_explains_nothing() {
    let home = after_an_earlier_run("exit 5");
    let failed = |report: &serde_json::Value| report["next_start_in_ms"].as_u64() > Some(5000);
    home.until_report("coder", "that it waits for a minute", failed);
    // The lines that are shown are those of the second of two attempts.
    until_file(&home.log_file("coder"), "both runs", |text| text.matches("now").count() == 2);
    for line in ["explain coder", "--json explain coder", "gateway status coder", "status coder"] {
        let said = home.says(line).ok();
        assert!(!said.contains("earlier run") && !said.contains("key-refused"), "{line}: {said}");
    }
    let doctor = home.says("doctor");
    assert!(doctor.code == Some(1) && !doctor.out.contains("earlier run"), "{doctor:?}");
    for line in ["doctor", "gateway status coder", "status coder"] {
        let said = home.says(line).out;
        assert!(said.lines().any(|line| line.trim_end().ends_with(" now")), "{line}: {said}");
    }
}

#[test]
fn of_a_gateway_that_is_up_only_lines_of_its_present_run_are_shown() {
    let home = after_an_earlier_run("exec sleep 1000");
    home.until_state("coder", "up");
    let said = home.says("status coder").ok();
    assert!(said.contains(" now") && !said.contains("earlier run"), "{said}");
}

#[test]
fn what_a_gateway_wrote_before_its_supervisor_began_is_no_cause_of_its_first_death() {
    let home = after_an_earlier_run(ONCE);
    until_file(&home.log_file("coder"), "both runs", |text| text.matches("now").count() == 2);
    home.until_state("coder", "up");
    let said = home.says("explain coder").ok();
    assert!(!said.contains("earlier run") && said.contains("printed  now\n"), "{said}");
}

#[test]
fn what_the_gateway_of_a_deleted_profile_of_that_name_wrote_explains_nothing() {
    let mut home = Home::with_script(&format!("cat \"$GATEVISOR_TEST_HOME/words\"; {ONCE}"), &[]);
    fs::write(home.beside("words"), format!("{EARLIER}\n")).unwrap();
    home.up_quietly();
    home.says("profile create coder --start");
    home.until_logged("coder", EARLIER);
    home.says("profile delete coder --yes").ok();
    fs::write(home.beside("words"), "now\n").unwrap();
    home.says("profile create coder --start");
    until_file(&home.log_file("coder"), "both runs", |text| text.matches("now").count() == 2);
    home.until_state("coder", "up");
    for line in ["explain coder", "status coder"] {
        let said = home.says(line).ok();
        assert!(!said.contains("earlier run"), "{line}: {said}");
    }
}
