//! The real `OpenClaw` from one version to the next, and the way back, on one home.

use std::path::PathBuf;

use crate::home::Home;
use crate::{WAIT_LIMIT, installed, named_by, openclaw, support, tried, use_openclaw, with_openclaw};

/// The version before the one that all other tests use. Its database has an older schema.
const OLDER: &str = "2026.9.5";

fn older() -> PathBuf {
    named_by("OPENCLAW_OLDER_BIN")
        .map_or_else(|| installed("openclaw.sh", &[OLDER]), |program| program.parent().unwrap().to_owned())
}

/// Waits until the gateway is ready, and returns whether it is of the older version.
fn is_of_older(home: &Home) -> bool {
    home.start(["wait", "--ready", "--timeout", "170", "coder"]).ended(WAIT_LIMIT).ok();
    let said = home.says("agents").ok();
    let row = said.lines().find(|line| line.starts_with("openclaw ")).unwrap();
    row.contains(OLDER)
}

#[test]
fn real_openclaw_keeps_its_desired_state_from_one_version_to_the_next_and_refuses_the_way_back_for_good() {
    support::set_wait_limit(WAIT_LIMIT);
    let (older, newer) = (older(), openclaw());
    let mut home = with_openclaw();
    home.run(["profile", "create", "coder"]).ok();
    home.want_running("coder");
    for (programs, is_older) in [(&older, true), (&newer, false)] {
        use_openclaw(&mut home, programs);
        home.up_quietly();
        assert_eq!(is_of_older(&home), is_older);
        assert_eq!(home.down().code, Some(0));
    }
    use_openclaw(&mut home, &older);
    home.up_quietly();
    let report = home.until_report("coder", "the refusal", |report| report["state"] == "failed");
    assert_eq!((&report["exitcode"], &report["desired_state"]), (&78.into(), &"running".into()), "{report}");
    assert_eq!(home.down().code, Some(0));
    // Nothing of that counts for the version that knows the database.
    use_openclaw(&mut home, &newer);
    home.up_quietly();
    assert!(!is_of_older(&home));
    assert_eq!(home.down().code, Some(0));
    let seen = format!("from {OLDER}; the way back is refused");
    assert_eq!(tried::documented("upgrade", "OpenClaw 2026.9.6"), seen, "docs/guides/agents.md");
}
