//! What the container's environment is to its command, its services and `with-contenv`.

use crate::engine::{ROOT, container, skipped};

#[test]
fn the_unmodified_command_believes_that_it_runs_under_s6() {
    if skipped() {
        return;
    }
    let container = container().started();
    assert_eq!(container.sh("cat /proc/1/comm"), "s6-svscan");
    container.sh("test -d /run/s6/basedir && cat /proc/1/stat >/dev/null");
    let ask = "/opt/hermes/.venv/bin/python -c 'from hermes_cli.service_manager import detect_service_manager as d; print(d())'";
    assert_eq!(container.sh(ask), "s6");
    assert_eq!(container.root_sh(ask), "s6");
}

#[test]
fn every_variable_is_kept_byte_for_byte_and_no_stranger_can_read_it() {
    if skipped() {
        return;
    }
    let odd = "first\nsecond  'quoted' $HOME \\ \t trailing  ";
    let container = container().env("ODD", odd).env("EMPTY", "").env("ENDS", "with a line end\n").started();
    let ask = "printf '%s|%s|%s|%s' \"$ODD\" \"${EMPTY-unset}\" \"$ENDS\" \"${CALLER-unset}\"";
    let script =
        format!("export CALLER=leaks; exec /command/with-contenv sh -c '{}'", ask.replace('\'', "'\\''"));
    assert_eq!(container.sh(&script), format!("{odd}||with a line end\n|unset").trim_end_matches('\n'));
    let keep = format!(
        "export CALLER=kept S6_KEEP_ENV=1; exec /command/with-contenv sh -c '{}'",
        ask.replace('\'', "'\\''")
    );
    assert!(container.sh(&keep).ends_with("|kept"));
    let modes = "stat -c '%a %u %g' /run/s6/container_environment; stat -c '%a %u %g' /run/s6/container_environment/ODD";
    assert_eq!(container.sh(modes), "750 0 10000\n640 0 10000");
    let stranger = container.exec_as("1234:1234", &["cat", "/run/s6/container_environment/ODD"]);
    assert_ne!(stranger.code, 0, "{stranger:?}");
}

#[test]
fn path_has_the_tools_for_services_and_not_for_sessions() {
    if skipped() {
        return;
    }
    let container = container().started();
    let inside = container.sh("/command/with-contenv sh -c 'echo $PATH'");
    assert!(inside.starts_with("/command:"), "{inside}");
    let session = container.sh("echo $PATH");
    assert!(!session.contains("/command"), "{session}");
}

#[test]
fn hooks_run_as_root_in_order_before_the_command_and_may_add_variables() {
    if skipped() {
        return;
    }
    let hook = |name: &str, body: &str| {
        format!(
            "printf '#!/command/with-contenv sh\\n%s\\n' '{body}' > /etc/cont-init.d/{name}; chmod +x /etc/cont-init.d/{name}; "
        )
    };
    let container = container().started();
    let all = [
        hook("20-second", "echo hook second as $(id -u); printf value > /run/s6/container_environment/ADDED"),
        hook("10-first", "echo hook first $# $*"),
        hook("30-fails", "exit 9"),
        hook("B-capital", "echo hook capital"),
    ]
    .concat();
    container.root_sh(&all);
    container.restart();
    let said = container.said();
    let hooks: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("hook "))
        .filter_map(|line| line.split_once("hook "))
        .map(|(_, rest)| rest)
        .collect();
    let order: Vec<&str> = hooks
        .iter()
        .copied()
        .filter(|line| ["first", "second", "capital"].iter().any(|word| line.starts_with(word)))
        .collect();
    assert_eq!(order, ["first 0", "second as 0", "capital"], "{said}");
    assert!(said.contains("30-fails"), "{said}");
    assert_eq!(container.sh("/command/with-contenv sh -c 'echo $ADDED'"), "value");
}

#[test]
fn user_and_group_take_the_numbers_that_they_are_told_as_root() {
    if skipped() {
        return;
    }
    let container = container().env("PUID", "99").env("PGID", "100").env("HERMES_UID", "1234").started();
    let script =
        "id -u hermes; id -g hermes; stat -c '%u:%g' $HERMES_HOME $HERMES_HOME/logs/gateways /run/service";
    let lines = container.root_sh(script);
    assert_eq!(lines, "1234\n100\n1234:100\n1234:100\n1234:100");
    let asked = container.exec_as(ROOT, &["hermes", "--version"]);
    asked.ok();
    container.exec_as("1234:100", &["touch", "/opt/data/mine"]).ok();
    // Twice is once.
    container.root_sh("cp /etc/passwd /tmp/before");
    container.restart();
    container.root_sh("cmp /etc/passwd /tmp/before");
}

#[test]
fn numbers_that_are_none_are_not_used() {
    if skipped() {
        return;
    }
    for wrong in ["0", "65535", "-5", "12a", "1 2", "99999999999999999999"] {
        let answer = container().env("HERMES_UID", wrong).run(&["id", "-u", "hermes"]);
        assert_eq!(answer.last_line(), "10000", "{wrong}: {answer:#?}");
    }
}
