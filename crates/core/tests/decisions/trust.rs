//! Whose directories and scripts are trusted.

use gatevisor_core::trust::{
    Ownership, Principal, RunsAs, ScriptDistrust, ScriptKind, distrust, may_have_log_of, runs_as,
};

const ROOT: Principal = Principal { uid: 0, gid: 0 };
const ALICE: Principal = Principal { uid: 1000, gid: 1000 };
const BOB: Principal = Principal { uid: 2000, gid: 2000 };

fn file(whose: Principal, mode: u32) -> Ownership {
    Ownership { uid: whose.uid, gid: whose.gid, mode }
}

#[test]
fn root_serves_everybody_as_themselves_and_others_serve_root_and_themselves_as_themselves() {
    for (owner, supervisor, expected) in [
        (0, 0, Some(RunsAs::Supervisor)),
        (1000, 0, Some(RunsAs::Owner)),
        (1000, 1000, Some(RunsAs::Supervisor)),
        (0, 1000, Some(RunsAs::Supervisor)),
        (2000, 1000, None),
    ] {
        assert_eq!(runs_as(owner, supervisor), expected, "{owner} {supervisor}");
    }
}

#[test]
fn a_script_is_executed_only_if_nobody_but_root_the_owner_and_the_supervisor_decides_what_it_is() {
    let (regular, link) = (ScriptKind::File, ScriptKind::Link);
    for (script, kind, directory, user, supervisor, expected) in [
        (file(ALICE, 0o755), regular, 1000, Some(ALICE), ROOT, None),
        (file(ROOT, 0o755), regular, 1000, Some(ALICE), ROOT, None),
        (file(BOB, 0o755), regular, 1000, Some(ALICE), ROOT, Some(ScriptDistrust::Stranger(2000))),
        (file(BOB, 0o777), link, 1000, Some(ALICE), ROOT, Some(ScriptDistrust::Stranger(2000))),
        // The mode of a link means nothing.
        (file(ALICE, 0o777), link, 1000, Some(ALICE), ROOT, None),
        (file(ALICE, 0o755), ScriptKind::Other, 1000, Some(ALICE), ROOT, Some(ScriptDistrust::WrongKind)),
        (file(ALICE, 0o757), regular, 1000, Some(ALICE), ROOT, Some(ScriptDistrust::WritableByOthers(0o757))),
        // The owner's own group may write, any other one may not.
        (file(ALICE, 0o775), regular, 1000, Some(ALICE), ROOT, None),
        (file(ROOT, 0o775), regular, 1000, Some(ALICE), ROOT, Some(ScriptDistrust::WritableByOthers(0o775))),
        // The directory was given away while it was supervised.
        (file(ALICE, 0o755), regular, 2000, Some(ALICE), ROOT, Some(ScriptDistrust::NewOwner(2000))),
        (file(ROOT, 0o755), regular, 1000, None, ROOT, Some(ScriptDistrust::NewOwner(1000))),
        (file(ROOT, 0o755), regular, 0, Some(ALICE), ROOT, Some(ScriptDistrust::NewOwner(0))),
        // A supervisor that is not root.
        (file(ALICE, 0o755), regular, 1000, None, ALICE, None),
        (file(ROOT, 0o755), regular, 0, None, ALICE, None),
        (file(BOB, 0o755), regular, 1000, None, ALICE, Some(ScriptDistrust::Stranger(2000))),
    ] {
        let found = distrust((script, kind), directory, user, supervisor);
        assert_eq!(found, expected, "{script:?} {kind:?} {directory} {user:?} {supervisor:?}");
    }
}

#[test]
fn an_owner_cannot_have_a_directory_of_somebody_else_run_as_a_log() {
    for (entry, log, supervisor, expected) in [
        (1000, 1000, 0, true),
        (1000, 2000, 0, false),
        (1000, 0, 0, false),
        (0, 1000, 0, true),
        (1000, 0, 1000, true),
        (0, 1000, 1000, true),
    ] {
        assert_eq!(may_have_log_of(entry, log, supervisor), expected, "{entry} {log} {supervisor}");
    }
}

#[test]
fn what_directs_the_supervisor_belongs_to_root_or_its_user_and_others_may_not_write_to_it() {
    for (what, alone, with_group, open) in [
        (file(ROOT, 0o755), true, true, false),
        (file(ALICE, 0o700), true, true, true),
        (file(BOB, 0o700), false, false, true),
        (file(ALICE, 0o770), false, true, true),
        (file(ROOT, 0o770), false, false, false),
        (Ownership { gid: 2000, ..file(ROOT, 0o620) }, false, false, true),
        (file(ROOT, 0o602), false, false, true),
    ] {
        let found =
            (what.is_only_of(ALICE.uid), what.is_only_of_group(ALICE), what.is_open_to_others_than_root());
        assert_eq!(found, (alone, with_group, open), "{what:?}");
    }
}
