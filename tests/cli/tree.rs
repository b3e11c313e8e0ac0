//! All processes of a gateway: `tree`, and what `status` counts.

use serde_json::Value;

use crate::home::Home;
use crate::support::processes::Held;

/// A gateway with a child, and with a process in the background: in another session, and orphaned.
const FAMILY: &str = "sleep 3601 &\n(setsid sh -c 'echo $$ >\"$0/away\"; exec sleep 3602' \"$2\" &)\n\
     while ! test -s \"$2/away\"; do sleep 0.01; done\necho begins\nexec sleep 3600";

fn family() -> (Home, Held) {
    let mut home = Home::with_script(FAMILY, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "begins");
    let away = std::fs::read_to_string(home.profile_dir("coder").join("away")).unwrap();
    let away = away.trim().parse().unwrap();
    // A process has its name once it has executed the program.
    crate::support::waiting::polled("three sleepers", || {
        let lines = home.processes().into_iter().map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")));
        let sleepers = lines.flatten().filter(|line| line.starts_with(b"sleep\x00360"));
        (sleepers.count() == 3).then_some(())
    });
    (home, Held::of(away).unwrap())
}

#[test]
fn the_tree_shows_children_and_what_has_gone_to_the_background_and_status_counts_them() {
    let (home, away) = family();
    let shown = home.says("tree coder").ok();
    assert!(shown.starts_with("coder\nPID "), "{shown}");
    for command in ["sleep 3600", "  sleep 3601", "sleep 3602"] {
        assert_eq!(shown.matches(command).count(), 1, "{command}: {shown}");
    }
    let objects = home.says("--json tree coder").ok();
    let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let leader: Vec<&Value> = objects.iter().filter(|object| object["is_leader"] == true).collect();
    assert_eq!((objects.len(), leader.len()), (3, 1), "{objects:?}");
    assert_eq!((&leader[0]["pid"], &leader[0]["depth"]), (&home.pid("coder").into(), &0.into()));
    let report = home.report("coder");
    assert_eq!(report["processes"], 3, "{report}");
    assert!(report["memory_bytes"].as_u64() > leader[0]["memory_bytes"].as_u64(), "{report}");
    assert!(report["cpu_ms"].is_u64(), "{report}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains(" in 3 processes, "), "{details}");
    away.kill();
}

#[test]
fn a_gateway_that_is_down_has_no_tree() {
    let mut home = Home::with_script(FAMILY, &[]);
    home.profile("coder");
    home.up();
    let ran = home.says("tree coder");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("no process of coder is there"), "{ran:?}");
}
