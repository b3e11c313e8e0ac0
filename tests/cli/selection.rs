//! One selection and one runner behind every verb: several names, patterns, states, all at once,
//! with a result line each and the worst exit code.

use serde_json::Value;

use crate::home::Home;

/// Returns a home whose gateways run until they are told to stop, with one that fails for good.
fn some() -> Home {
    some_with(Home::up_quietly)
}

fn some_with(up: impl FnOnce(&mut Home)) -> Home {
    let mut home = Home::with_script("test \"$1\" != broken || exit 78; exec sleep 1000", &[]);
    for name in ["coder", "broken", "test-a", "test-b"] {
        home.plant(name);
    }
    up(&mut home);
    for name in ["coder", "broken", "test-a", "test-b"] {
        home.until_supervised(name);
    }
    home
}

#[test]
fn verbs_at_the_top_do_what_the_verbs_of_gateways_do() {
    let home = some();
    let said = home.says("start test-b coder --no-wait").ok();
    assert_eq!(said, "test-b: starting\ncoder: starting\n");
    assert_eq!(home.report("coder")["desired_by"]["command"], "gateway start test-b coder");
    assert_eq!(home.says("wait --up coder test-b").ok(), "coder: up\ntest-b: up\n");
    let ran = home.says("restart test-[b-z]");
    assert!(ran.out.starts_with("test-b: restarted, up (pid ") && ran.code == Some(0), "{ran:?}");
    let ran = home.says("stop coder test-?");
    assert_eq!((ran.code, &*ran.out), (Some(0), "coder: down\ntest-a: was down already\ntest-b: down\n"));
    assert!(ran.err.ends_with("gatevisor: 3 gateways: all done\n"), "{ran:?}");
    for verb in ["ps", "ls"] {
        let table = home.says(verb).ok();
        assert!(table.contains("coder") && table.contains("test-b"), "{verb}: {table}");
    }
    assert!(home.says("help gateway").ok().contains("Usage: gatevisor gateway"));
}

#[test]
fn of_several_each_has_its_line_and_the_worst_exit_code_is_that_of_the_command() {
    let home = some();
    let ran = home.says("start coder broken nobody");
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    assert!(ran.out.starts_with("coder: up"), "{ran:?}");
    assert!(ran.err.contains("there is no profile `nobody`"), "{ran:?}");
    assert!(ran.err.ends_with("gatevisor: 3 gateways: 1 done, 2 failed\n"), "{ran:?}");
    assert_eq!(ran.code, Some(1));
    let ran = home.says("--json wait --down coder broken --timeout 0");
    let objects: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ran.code, Some(99), "{ran:?}");
    assert_eq!(
        (&objects[0]["profile"], &objects[0]["ok"], &objects[0]["exit"]),
        (&"coder".into(), &false.into(), &99.into())
    );
}

#[test]
fn what_has_failed_is_chosen_by_that_for_every_verb() {
    let home = some();
    assert_eq!(home.says("start broken").code, Some(1));
    home.until_state("broken", "failed");
    for line in ["status --failed", "gateway status --failed", "explain --failed", "profile show --failed"] {
        let said = home.says(line).ok();
        assert!(said.contains("broken") && !said.contains("coder"), "{line}: {said}");
    }
    for line in [
        "restart --unresponsive",
        "stop --unresponsive",
        "logs --unresponsive",
        "profile delete --yes --unresponsive",
    ] {
        assert!(home.says(line).refused(1).contains("no gateway is unresponsive"), "{line}");
    }
    assert!(home.says("stop --failed --unresponsive").ok().starts_with("broken: "));
}

#[test]
fn profiles_are_deleted_by_a_pattern_and_none_is_where_one_of_them_does_not_exist() {
    let home = some();
    home.says("start test-a").ok();
    assert!(
        home.says("profile delete --yes test-a nobody").refused(1).contains("there is no profile `nobody`")
    );
    let said = home.says("profile delete test-*").refused(1);
    assert!(said.contains("use --yes to delete profiles test-a, test-b"), "{said}");
    assert!(home.says("profile delete --yes").refused(100).contains("which profiles"));
    assert!(home.profile_dir("test-a").exists());
    let ran = home.says("profile delete --yes test-*");
    assert_eq!(
        (ran.code, &*ran.out),
        (Some(0), "test-a: deleted; its logs stay\ntest-b: deleted; its logs stay\n")
    );
    assert!(!home.profile_dir("test-a").exists() && !home.slot("test-b").path().exists());
    // The home itself is no profile that a pattern could delete.
    home.says("profile delete --yes --all").ok();
    assert!(home.path().exists() && home.says("profile list").ok().is_empty());
}

#[test]
fn gateways_are_registered_and_unregistered_by_patterns() {
    let home = some_with(Home::up_alone);
    assert_eq!(home.says("gateway unregister test-*").ok(), "test-a: gone\ntest-b: gone\n");
    assert_eq!(
        home.says("gateway register test-*").ok(),
        "test-a: registered, down\ntest-b: registered, down\n"
    );
    assert_eq!(home.says("gateway unregister [ct]*").ok().lines().count(), 3);
    let said = home.says("gateway stop test-[").refused(100);
    assert!(said.contains("`test-[` is no pattern of names"), "{said}");
}
