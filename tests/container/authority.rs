//! What root executes, reads and joins in a container whose agent has left things where root looks.

use std::os::unix::fs::PermissionsExt;

use crate::engine::{Container, HERMES, ROOT, Start, container, docker, skipped};

/// The `PATH` that earlier images set, and that many a `docker run` still sets.
const EARLIER_PATH: &str = "/opt/hermes/bin:/opt/hermes/.venv/bin:/opt/data/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs that root calls by name, each of which says who ran it.
const FORGE: &str = "mkdir -p ~/.local/bin ~/.local/lib/python3.11/site-packages ~/lib; cd ~/.local/bin; rm -f *
    for name in gatevisor hermes ls sleep mkdir id env sh bash python3 cat test printf touch s6-svc; do
        printf '#!/bin/sh\\necho \"%s as $(/usr/bin/id -u)\" >> /opt/data/ran\\n' $name > .new; chmod 755 .new; mv .new $name
    done
    says=\"import os; open('/opt/data/ran', 'a').write('python as %d\\n' % os.getuid())\"
    echo \"$says\" > ../lib/python3.11/site-packages/usercustomize.py; echo \"$says\" > ~/lib/sitecustomize.py
    echo 'echo startup as $(/usr/bin/id -u) >> /opt/data/ran' > ~/startup; : > /opt/data/ran; chmod 666 /opt/data/ran";

/// What root's own services and hooks do.
const WORK: &str = "id -u; ls / >/dev/null; mkdir -p /tmp/made; sleep 0; python3 -c 1; bash -c true";

/// A command that the agent's own programs cannot replace.
const COMMAND: [&str; 3] = ["/bin/sh", "-c", "echo 'the command runs'; exec /bin/sleep infinity"];

/// Runs a script without the variables that the container's operator set.
fn plainly(container: &Container, user: &str, script: &str) -> String {
    let plain = [
        "/usr/bin/env",
        "-i",
        "HOME=/opt/data",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "/bin/bash",
        "-c",
        script,
    ];
    container.exec_as(user, &plain).ok().into()
}

/// Returns which of the agent's programs ran as root.
fn ran_as_root(container: &Container) -> String {
    plainly(container, ROOT, "grep 'as 0' /opt/data/ran || true")
}

fn with_home(start: Start) -> Container {
    let container = start.started_as(&COMMAND);
    container.says("the command runs");
    plainly(&container, HERMES, FORGE);
    let hooks = format!(
        "for h in /bin/sh '/command/with-contenv sh'; do name=$(echo $h | tr -dc a-z); \
             printf '#!%s\\n{WORK}; echo hook %s $PATH\\n' \"$h\" $name > /etc/cont-init.d/$name; done; \
         chmod 755 /etc/cont-init.d/*"
    );
    plainly(&container, ROOT, &hooks);
    container.restart();
    container
}

/// Makes root make services of its own, and waits until they have done their work.
fn roots_services(container: &Container) {
    let done = "/bin/echo done >> /tmp/done; exec /bin/sleep infinity";
    let make = format!(
        "cd /run/service; mkdir -p .plain .contenv .slot/data
         printf '#!/bin/sh\\n{WORK}; {done}\\n' > .plain/run
         printf '#!/command/with-contenv sh\\n{WORK}; {done}\\n' > .contenv/run
         printf '#!/usr/local/bin/gatevisor service\\ncommand = [\"sh\", \"-c\", \"{WORK}; {done}\"]\\n' > .slot/run
         chmod 755 .*/run; for s in plain contenv slot; do mv .$s $s; done; /command/s6-svscanctl -a .
         timeout 60 grep -qm3 done < <(exec tail -n +1 -F /tmp/done 2>/dev/null)"
    );
    plainly(container, ROOT, &make);
}

#[test]
fn nothing_that_the_agent_leaves_where_programs_are_looked_for_runs_as_root() {
    if skipped() {
        return;
    }
    let careless = container()
        .env("PATH", EARLIER_PATH)
        .env("HOME", "/opt/data")
        .env("PYTHONPATH", "/opt/data/lib")
        .env("BASH_ENV", "/opt/data/startup")
        .env("ENV", "/opt/data/startup");
    for start in [container(), careless] {
        let container = with_home(start);
        roots_services(&container);
        // The engine gives these programs everything that the operator set before.
        for words in [
            &["/usr/local/bin/gatevisor", "status"][..],
            &["/usr/local/bin/gatevisor", "doctor"],
            &["/usr/local/bin/gatevisor", "enter", "id", "-u"],
            &["/opt/hermes/bin/hermes", "--version"],
            &["/usr/bin/env", "HERMES_DOCKER_EXEC_AS_ROOT=1", "/opt/hermes/bin/hermes", "--version"],
            &["/command/with-contenv", "ls", "/"],
            &["/command/with-contenv", "bash", "-c", "ls /; python3 -c 1"],
            &["/command/s6-setuidgid", "root", "bash", "-c", "ls /; python3 -c 1"],
            &["/command/execlineb", "-Pc", "python3 -c 1"],
        ] {
            let answer = container.exec_as(ROOT, words);
            assert!([0, 1].contains(&answer.code), "{words:?}: {answer:?}");
        }
        let path = plainly(&container, ROOT, "tr '\\0' '\\n' < /proc/1/environ | grep ^PATH=");
        assert!(!path.contains("/opt/data"), "{path}");
        assert_eq!(ran_as_root(&container), "", "{}", container.said());
    }
}

/// `docker exec` searches the image's `PATH` for the program.
#[test]
fn what_the_docs_tell_root_to_call_is_not_what_the_agent_left_there() {
    if skipped() {
        return;
    }
    let container = with_home(container());
    for words in ["gatevisor status", "hermes --version", "bash -lc ls", "sh -c ls", "ls /"] {
        let words: Vec<&str> = words.splitn(3, ' ').collect();
        container.exec_as(ROOT, &words).ok();
    }
    assert_eq!(ran_as_root(&container), "");
}

#[test]
fn what_root_does_not_search_is_said_and_the_agent_still_does() {
    if skipped() {
        return;
    }
    let asked = container().env("PATH", EARLIER_PATH).env("NODE_OPTIONS", "--max-old-space-size=64");
    let container = with_home(asked);
    let said = container.said();
    let why =
        "root does not look for programs in `/opt/data/.local/bin` of PATH: `/opt/data` belongs to uid 10000";
    assert!(said.contains(why), "{said}");
    assert!(said.contains("what runs as root is not told NODE_OPTIONS, which"), "{said}");
    for hook in ["binsh", "commandwithcontenvsh"] {
        let line = said.lines().rfind(|line| line.starts_with(&format!("hook {hook} "))).unwrap_or_default();
        assert!(line.contains("/usr/bin") && !line.contains("/opt/data"), "{line}: {said}");
    }
    let told = plainly(&container, HERMES, "tr '\\0' '\\n' < /proc/$(pgrep -o -x sleep)/environ");
    assert!(told.contains("NODE_OPTIONS=") && told.contains(":/opt/data/.local/bin:"), "{told}");
}

#[test]
fn the_agent_s_own_programs_are_found_by_all_that_runs_as_the_agent() {
    if skipped() {
        return;
    }
    let container = container().started();
    let own = "/opt/hermes/bin:/opt/hermes/.venv/bin:/opt/data/.local/bin:/usr/local/sbin:";
    let path =
        |pid: &str| container.sh(&format!("tr '\\0' '\\n' < /proc/{pid}/environ | sed -n s/^PATH=//p"));
    let of_command = path("$(pgrep -o -x sleep)");
    assert!(of_command.contains(own), "{of_command}");
    container.hermes("profile create coder").ok();
    container.hermes("-p coder gateway start").ok();
    container.waits("-u", "gateway-coder");
    for service in ["gateway-coder", "main-hermes"] {
        container.waits("-u", service);
        let found = path(&container.pid(service).to_string());
        assert!(found.contains(own), "{service}: {found}");
    }
    let contenv = container.exec(&["/command/with-contenv", "printenv", "PATH"]);
    assert!(contenv.ok().contains(own), "{contenv:?}");
    let root = container.exec_as(ROOT, &["/command/with-contenv", "printenv", "PATH"]);
    assert!(!root.ok().contains("/opt/data"), "{root:?}");
    let dropped = ["/command/s6-setuidgid", "hermes", "/command/with-contenv", "printenv", "PATH"];
    assert!(container.exec_as(ROOT, &dropped).ok().contains(own));
}

#[test]
fn a_hook_that_the_agent_may_have_written_is_not_run() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.sh("printf '#!/bin/sh\\necho ran planted\\n' > /opt/data/hook; chmod 755 /opt/data/hook");
    container.root_sh(
        "cd /etc/cont-init.d; printf '#!/bin/sh\\necho ran own\\n' > 10-own; cp 10-own 20-given; cp 10-own 30-shared; \
         ln -s /opt/data/hook 40-link; chmod 755 *; chown hermes 20-given; chgrp hermes 30-shared; chmod 775 30-shared",
    );
    container.restart();
    let said = container.said();
    assert_eq!(said.matches("ran ").count(), 1, "{said}");
    for (hook, why) in [
        ("20-given", "`/etc/cont-init.d/20-given` belongs to uid 10000"),
        ("30-shared", "`/etc/cont-init.d/30-shared` may be written to by others than root"),
        ("40-link", "`/opt/data` belongs to uid 10000"),
    ] {
        let words = format!("the hook `/etc/cont-init.d/{hook}` is not run as root: {why}");
        assert!(said.contains(&words), "{words}: {said}");
    }
    // A hook that an operator mounts may belong to a user of another machine.
    let dir = tempfile::tempdir().unwrap();
    let hook = dir.path().join("hook");
    std::fs::write(&hook, "#!/bin/sh\necho ran mounted\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    if std::os::unix::fs::chown(&hook, Some(1000), Some(1000)).is_ok() {
        let mount = format!("--volume {}:/etc/cont-init.d/10-x:ro", hook.display());
        let answer = crate::engine::container().with(&mount).run(&["true"]);
        assert!(answer.ok().contains("ran mounted"), "{answer:#?}");
    }
}

#[test]
fn a_socket_that_the_agent_puts_where_the_engine_s_would_be_gives_it_no_group() {
    if skipped() {
        return;
    }
    let container = container().started();
    let bind = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])";
    container.root_sh(&format!(
        "python3 -c '{bind}' /run/root.sock; chgrp shadow /run/root.sock; chmod 660 /run/root.sock"
    ));
    let groups = "sed -n 's/^Groups:[[:blank:]]*//p' /proc/$(pgrep -o -x sleep)/status; id -G hermes; stat -c %G /run/docker.sock";
    for plant in [
        "ln -s /run/root.sock /run/docker.sock".to_owned(),
        "mkdir /run/x && ln -s /run/root.sock /run/x/docker.sock && ln -s x/docker.sock /run/docker.sock"
            .into(),
        format!("python3 -c '{bind}' /run/docker.sock"),
    ] {
        container.sh(&format!("rm -rf /run/docker.sock /run/x; {plant}"));
        container.restart();
        let lines = container.root_sh(groups);
        let lines: Vec<&str> = lines.lines().map(str::trim).take(2).collect();
        assert_eq!(lines, ["10000", "10000"], "{plant}");
    }
}

#[test]
fn what_the_agent_does_to_its_services_makes_no_container_unhealthy_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    let healthy = ["gatevisor", "health", "--supervisor"];
    let check = docker(["inspect", "--format", "{{json .Config.Healthcheck.Test}}", container.name()]);
    assert_eq!(check.ok(), r#"["CMD","/usr/local/bin/gatevisor","health","--supervisor"]"#);
    for user in [ROOT, HERMES] {
        assert_eq!(container.exec_as(user, &healthy).ok(), "the supervisor works (pid 1)");
    }
    container.sh("rm -rf /run/service/main-hermes; mv /run/service/.s6-svscan /run/service/.gone; mv /opt/data/profiles /opt/data/p");
    for user in [ROOT, HERMES] {
        assert_eq!(container.exec_as(user, &healthy).ok(), "the supervisor works (pid 1)");
    }
    let json = container.exec(&["gatevisor", "--json", "health", "--supervisor"]);
    let json = json.ok();
    assert!(json.starts_with(r#"{"healthy":true,"pid":1,"reason":null,"unwatched":"#), "{json}");
}

#[test]
fn health_of_gateways_is_that_they_run_where_they_should() {
    if skipped() {
        return;
    }
    let container = container().started();
    let health = |words: &[&str]| container.exec(&[&["gatevisor", "health"], words].concat());
    assert_eq!(health(&[]).ok(), "", "none should run");
    assert_eq!(health(&["default"]).fails(1), "default: down\n");
    container.hermes("gateway start").ok();
    container.waits("-u", "gateway-default");
    container.exec(&["gatevisor", "wait", "default", "--live", "--timeout", "120"]).ok();
    assert!(health(&["default"]).ok().starts_with("default: "));
    assert!(health(&[]).ok().starts_with("default: "));
    let json = health(&["--json"]);
    assert!(json.ok().starts_with(r#"{"profile":"default","healthy":true,"state":""#), "{json:?}");
    container.exec(&["/command/s6-svc", "-p", "/run/service/gateway-default"]).ok();
    container.exec(&["/command/s6-svwait", "-u", "-t", "1000", "/run/service/gateway-default"]).ok();
    let paused = health(&[]);
    container.exec(&["/command/s6-svc", "-c", "/run/service/gateway-default"]).ok();
    assert_eq!(paused.fails(1), "default: paused\n");
    assert_ne!(health(&["nobody"]).code, 0);
}
