//! Draining all gateways before their supervisor ends (`down --drain`).

use std::fs;
use std::time::{Duration, Instant};

use crate::drain::{draining_in, in_time, marker, show, started, with_marker};
use crate::home::Home;
use crate::support::{processes, waiting};

#[test]
fn the_supervisor_ends_when_its_gateways_are_idle_if_down_has_them_drained() {
    let home = with_marker();
    let pid = home.pid("coder");
    show(&home, "draining", 1);
    let command = started(&home, "down --drain=5m");
    assert_eq!(home.report("coder")["drain"]["then"], "stop");
    assert_eq!(home.pid("coder"), pid);
    show(&home, "draining", 0);
    let ran = command.ended(in_time());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("the supervisor has ended"), "{ran:?}");
    assert!(ran.err.contains("coder: idle after"), "{ran:?}");
    assert!(processes::stat(pid).is_none(), "{}", processes::describe(pid));
    // The next process must not find that it is asked to take no work.
    waiting::polled("that nothing asks it to drain", || (!marker(&home).exists()).then_some(()));
    assert_eq!(home.says("health").code, Some(1));
}

#[test]
fn a_request_that_ends_with_the_process_is_not_taken_back_from_a_gateway_that_is_about_to_end() {
    // It ends once it is let go, long after the command.
    let script = "trap 'while [ -e stay ]; do sleep 0.05; done; exit 0' TERM\nwhile :; do sleep 0.05; done";
    let mut home = draining_in(
        script,
        "[gateway.drain.command]\n\
         begin = [\"touch\", \"{profile-home}/drain.json\"]\n\
         end = [\"sh\", \"-c\", \"echo >>{profile-home}/ended; rm {profile-home}/drain.json\"]\n\
         ends-with-process = true\n\
         [gateway.drain.idle]\ncommand = [\"cat\", \"{profile-home}/work.json\"]\nturns = \"turns\"\n",
    );
    let file = |name: &str| home.profile_dir("coder").join(name);
    show(&home, "draining", 0);
    fs::write(file("stay"), "").unwrap();
    let ran = home.says("down --drain=5m --no-wait");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(marker(&home).exists() && !file("ended").exists(), "{ran:?}");
    fs::remove_file(file("stay")).unwrap();
    home.ended();
}

/// Returns a home with three gateways. This shell command asks each of them to drain.
fn three_asked_by(command: &str) -> Home {
    let home = draining_in(
        "exec sleep 1000",
        &format!(
            "[gateway.drain.command]\nbegin = [\"sh\", \"-c\", \"{command}\"]\nend = [\"true\"]\n\
             timeout-ms = 60000\nends-with-process = true\n\
             [gateway.drain.idle]\ncommand = [\"echo\", '{{\"turns\": 0}}']\nturns = \"turns\"\n"
        ),
    );
    for name in ["writer", "tester"] {
        home.profile(name);
        home.says(&format!("gateway start {name}")).ok();
    }
    home
}

#[test]
fn all_gateways_are_asked_at_the_same_time() {
    // Each command ends when all three have begun.
    let command = "touch {profile-home}/asked; \
                   until [ -e ../coder/asked -a -e ../writer/asked -a -e ../tester/asked ]; do sleep 0.05; done";
    let home = three_asked_by(command);
    let ran = home.says("down --drain=5m");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["coder", "writer", "tester"] {
        assert!(ran.err.contains(&format!("{name}: idle after ")), "{ran:?}");
    }
}

#[test]
fn gateways_that_do_not_answer_cost_the_limit_of_the_drain_once() {
    let home = three_asked_by("sleep 1000");
    let began = Instant::now();
    let ran = home.says("down --drain=1s");
    // A single one of those commands may take a minute.
    assert!(began.elapsed() < Duration::from_mins(1), "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["coder", "writer", "tester"] {
        let said = format!("{name}: it has not said that it takes no new work after ");
        assert!(ran.err.contains(&said), "{ran:?}");
    }
}
