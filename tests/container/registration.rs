//! Services that come and go while the container runs, by an unprivileged user.

use crate::engine::{Container, container, skipped};

fn python(container: &Container, script: &str) -> String {
    let answer = container.exec(&["/opt/hermes/.venv/bin/python", "-c", script]);
    assert_eq!(answer.code, 0, "{answer:#?}; {}", container.said());
    answer.out.trim_end().into()
}

/// Fires rescans without pause until a file appears, and says how many there were.
const RESCANS: &str = "n=0; : > /tmp/firing; while [ ! -e /tmp/enough ]; do /command/s6-svscanctl -a /run/service || exit 1; n=$((n+1)); done; echo $n > /tmp/fired";

#[test]
fn register_and_unregister_hold_thirty_times_while_rescans_are_fired() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.exec(&["sh", "-c", &format!("setsid sh -c '{RESCANS}' </dev/null >/dev/null 2>&1 &")]).ok();
    let script = "
import os, subprocess
from hermes_cli.service_manager import get_service_manager
manager = get_service_manager()
svstat = lambda name: subprocess.run(['/command/s6-svstat', '/run/service/gateway-' + name], capture_output=True, text=True)
for turn in range(30):
    name = 'turn%d' % (turn % 3)
    manager.register_profile_gateway(name, start_now=False)
    answer = svstat(name)
    assert answer.returncode == 0, (turn, answer)
    assert answer.stdout.startswith('down'), (turn, answer)
    assert name in manager.list_profile_gateways(), turn
    manager.unregister_profile_gateway(name)
    assert not os.path.exists('/run/service/gateway-' + name), turn
    assert name not in manager.list_profile_gateways(), turn
print('clean')";
    assert_eq!(python(&container, script), "clean");
    container.sh(": > /tmp/enough; timeout 20 sh -c 'tail -F /tmp/fired 2>/dev/null | grep -qm1 .' ; test $(cat /tmp/fired) -gt 30");
}

#[test]
fn what_begins_with_a_dot_is_not_supervised_and_everything_else_is() {
    if skipped() {
        return;
    }
    let container = container().started();
    let make = "cd /run/service; for name in .gateway-staged.tmp gateway-plain.tmp; do mkdir $name; echo longrun > $name/type; \
        printf '#!/command/execlineb -P\\n/command/s6-sleep 600\\n' > $name/run; chmod 755 $name/run; done; ";
    let fire = "for i in 1 2 3 4 5 6 7 8 9; do /command/s6-svscanctl -a /run/service || exit 1; done; ";
    let look = "test -d gateway-plain.tmp/supervise && test ! -e .gateway-staged.tmp/supervise && /command/s6-svwait -u -t 20000 gateway-plain.tmp && /command/s6-svstat gateway-plain.tmp; ";
    let state = container.sh(&[make, fire, look].concat());
    assert!(state.starts_with("up (pid "), "{state}");
    let publish = "cd /run/service; mv .gateway-staged.tmp gateway-staged; /command/s6-svscanctl -a . && /command/s6-svwait -u -t 20000 gateway-staged && /command/s6-svstat gateway-staged";
    assert!(container.sh(publish).starts_with("up (pid "));
}

#[test]
fn a_service_runs_as_the_owner_of_its_directory() {
    if skipped() {
        return;
    }
    let container = container().started();
    let script = "cd /run/service; mkdir .who; printf '#!/bin/sh\\nid -u > /tmp/who; exec sleep infinity\\n' > .who/run; chmod 755 .who/run; \
        mv .who who; /command/s6-svscanctl -a . && /command/s6-svwait -u -t 20000 who && timeout 20 grep -m1 . <(exec tail -n +1 -F /tmp/who 2>/dev/null)";
    assert_eq!(container.sh(script), "10000");
}

#[test]
fn a_directory_that_vanishes_takes_its_processes_with_it_and_its_name_is_free() {
    if skipped() {
        return;
    }
    let container = container().started();
    let make = "cd /run/service; mkdir -p .x/log; printf '#!/bin/sh\\nexec sleep infinity\\n' > .x/run; \
        printf '#!/bin/sh\\nexec s6-log 1 n10 s1000000 T /opt/data/x\\n' > .x/log/run; chmod 755 .x/run .x/log/run; \
        mv .x x && /command/s6-svscanctl -a . && /command/s6-svwait -u -t 20000 x; /command/s6-svstat -o pid x";
    let first = container.sh(make);
    container.sh("rm -rf /run/service/x");
    let second = container.sh(make);
    assert_ne!(first, second);
    container.sh(&format!("! kill -0 {first}"));
    // There is one logger, however it is made.
    let loggers = container.sh("pgrep -fc '[s]6-log.*/opt/data/x' || true");
    assert!(["0", "1"].contains(&loggers.as_str()), "{}", container.sh("ps axf"));
}

#[test]
fn a_stale_staging_directory_of_root_does_not_survive_a_restart() {
    if skipped() {
        return;
    }
    let container = container().started();
    container
        .root_sh("mkdir -m 700 /run/service/.gateway-default.tmp; touch /run/service/.gateway-default.tmp/x");
    container.restart();
    container.sh(
        "! ls -d /run/service/.gateway-*.tmp 2>/dev/null && /command/s6-svstat /run/service/gateway-default",
    );
}
