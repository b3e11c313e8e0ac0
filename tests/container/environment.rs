//! The container's environment, as its command, its services and `with-contenv` see it.

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

/// A hook that fails, as a file that can be mounted.
fn failing_hook() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let hook = dir.path().join("hook");
    std::fs::write(&hook, "#!/bin/sh\necho the hook ran\nexit 9\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn a_failing_hook_is_said_and_stops_the_container_only_where_that_is_requested() {
    if skipped() {
        return;
    }
    let hook = failing_hook();
    let with = || {
        let mount = format!("--volume {}:/etc/cont-init.d/10-fails:ro", hook.path().join("hook").display());
        container().with(&mount)
    };
    let goes_on = with().run(&["echo", "the command ran"]);
    assert_eq!(goes_on.ok().lines().last(), Some("the command ran"));
    assert!(goes_on.err.contains("10-fails` failed: exitcode 9; the boot goes on"), "{goes_on:#?}");
    let stops = with().env("S6_BEHAVIOUR_IF_STAGE2_FAILS", "2").run(&["echo", "the command ran"]);
    let said = stops.fails(111);
    assert!(said.contains("the hook ran") && !said.contains("the command ran"), "{said}");
    assert!(
        said.contains("fatal: stopping the container: the hook `/etc/cont-init.d/10-fails` failed"),
        "{said}"
    );
}

#[test]
fn the_agent_is_in_the_groups_of_the_docker_socket_and_of_graphics_devices_root() {
    if skipped() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("not shown: only root can give a socket and a device to a group");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let _socket = std::os::unix::net::UnixListener::bind(path("docker.sock")).unwrap();
    std::os::unix::fs::chown(path("docker.sock"), Some(0), Some(4711)).unwrap();
    for (name, gid) in [("card0", 44), ("renderD128", 4712), ("renderD129", 0)] {
        // A null device, because only the owner of the device matters.
        let (mode, device) = (rustix::fs::Mode::from_raw_mode(0o660), rustix::fs::makedev(1, 3));
        rustix::fs::mknodat(rustix::fs::CWD, path(name), rustix::fs::FileType::CharacterDevice, mode, device)
            .unwrap();
        std::os::unix::fs::chown(path(name), Some(0), Some(gid)).unwrap();
    }
    let device = |name: &str| format!("--device {}:/dev/dri/{name}", path(name).display());
    let container = container()
        .with(&format!("--volume {}:/var/run/docker.sock", path("docker.sock").display()))
        .with(&device("card0"))
        .with(&device("renderD128"))
        .with(&device("renderD129"))
        .started();
    let groups = "cat /proc/$(pgrep -o -x sleep)/status | grep Groups | tr -s ' \t' ' '; id -G hermes; \
                  getent group 4711 | cut -d: -f1; grep -c : /etc/group";
    let lines = container.root_sh(groups);
    let (first, rest) = lines.split_once('\n').unwrap();
    let numbers = |line: &str| {
        let mut all: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(numbers(first), [44, 4711, 4712, 10000], "{lines}");
    assert_eq!(numbers(rest.lines().next().unwrap()), [44, 4711, 4712, 10000], "{lines}");
    assert_eq!(rest.lines().nth(1), Some("hostdocker"), "{lines}");
    // A second boot changes nothing.
    container.restart();
    assert_eq!(container.root_sh(groups), lines);
}

#[test]
fn where_accounts_cannot_be_changed_the_agent_keeps_its_numbers_and_that_is_said() {
    if skipped() {
        return;
    }
    let read_only = "--read-only --tmpfs /run --tmpfs /tmp --env HERMES_UID=1234 --env HERMES_GID=1235";
    let answer =
        container().with(read_only).run(&["sh", "-c", "id -u; touch $HERMES_HOME/x && echo writable"]);
    assert_eq!(answer.ok().lines().rev().take(2).collect::<Vec<_>>(), ["writable", "10000"], "{answer:#?}");
    for file in ["/etc/passwd", "/etc/group"] {
        let words = format!("cannot change `{file}`: ");
        assert!(answer.err.contains(&words) && answer.err.contains("stay as they are"), "{answer:#?}");
    }
}

#[test]
fn secrets_in_the_environment_are_for_the_agent_alone_whoever_that_is() {
    if skipped() {
        return;
    }
    let look = "d=/run/s6/container_environment; stat -c '%a %u %g' $d $d/SECRET; cat $d/SECRET";
    let secret = || container().env("SECRET", "s3cret");
    let remapped = secret().env("HERMES_UID", "1234").env("HERMES_GID", "1235").started();
    assert_eq!(remapped.root_sh(look), "750 0 1235\n640 0 1235\ns3cret");
    remapped.exec_as("1234:1235", &["cat", "/run/s6/container_environment/SECRET"]).ok();
    assert_ne!(remapped.exec_as("10000:10000", &["cat", "/run/s6/container_environment/SECRET"]).code, 0);
    let own = secret().with("--user 10000:10000").started();
    assert_eq!(own.sh(look), "700 10000 10000\n600 10000 10000\ns3cret");
    assert_ne!(own.exec_as("1234:1234", &["cat", "/run/s6/container_environment/SECRET"]).code, 0);
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
    // A second boot changes nothing.
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
