//! Every file-system call of root in a whole life of a container whose home and scandir belong to a
//! hostile agent. Nothing in these directories can lead a call astray.
//!
//! *Lives here:* the life, and the short list of calls that are right although their form does not
//! show it. *Does not live here:* what a call must look like (`sandwich.py`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cell::{self, Cell};
use crate::support;

const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hostile/sandwich.py");
/// The directories that root does not own.
const OWNED: [&str; 2] = ["/opt/data", "/run/service"];
/// The tracer and the calls that it records. A filter in the kernel lets all other calls pass at
/// full speed.
const TRACER: [&str; 9] = [
    "strace",
    "-f",
    "-y",
    "--pidns-translation",
    "--seccomp-bpf",
    "-s",
    "300",
    "-e",
    "trace=%file,%process,%creds,fchdir,chdir,inotify_add_watch,openat2",
];

/// Calls that are right, each as a part of the judge's line, with the reason why nobody can lead it
/// astray.
const RIGHT: &[(&str, &str)] = &[];

/// What the agent makes of its home and scandir while the container runs.
const HOSTILE: &str = r#"
cd /run/service
for x in run finish down log data env cgroup event supervise lock-fd notification-fd timeout-kill flag-newpidns; do
    mkdir ".$x"; printf '#!/bin/sh\nexec /usr/bin/sleep 3600\n' > ".$x/run"; chmod 755 ".$x/run"
    rm -rf ".$x/$x"; ln -s "/etc/$x" ".$x/$x"; mv ".$x" "linked-$x"
done
mkdir .all .all/data .all/env .all/log .all/event .all/cgroup
printf '#!/usr/local/bin/gatevisor service\ncommand = ["/usr/bin/sleep", "3600"]\n' > .all/run
printf '#!/bin/sh\nexit 1\n' > .all/finish
printf '#!/usr/local/bin/gatevisor log\ndirectory = "lines"\n' > .all/log/run
echo 3 > .all/notification-fd; echo 5000 > .all/timeout-kill; echo 100 > .all/cgroup/pids; echo 1 > .all/data/backoff-first
chmod 755 .all/run .all/finish .all/log/run; mv .all all
mkdir -p .piped/log; printf '#!/bin/sh\nexec /usr/bin/cat\n' | tee .piped/run > .piped/log/run; chmod 755 .piped/run .piped/log/run; mv .piped piped
ln -s /etc linked; ln -s all linked-to-all; mkfifo fifo; mkdir -p deep/er/still; : > file
printf a > .s6-svscan/control
cd /opt/data
mkdir -p profiles/a profiles/b/c/d cron/jobs; ln -s /etc profiles/link; ln -s /etc/passwd auth.json; mkfifo .env; ln -s /etc logs/gateways/link
echo '{"pid": 1}' > gateway.pid; echo '{"gateway_state": "running"}' > profiles/a/gateway_state.json; : > profiles/a/SOUL.md
"#;

/// What root leaves in the home.
const ROOTS: &str = "mkdir -p /opt/data/profiles/b/roots /opt/data/cron/roots; : > /opt/data/profiles/b/roots/file; : > /opt/data/state.db; \
                     ln -s /opt/data /srv/by-link; mkdir -p /srv/home; ln -s /run/service/all /run/service/by-root; printf h > /run/service/.s6-svscan/control";

/// What root does from outside, one line each. The exit codes do not matter. The agent's gateways
/// never show that they work, so the starts have a time limit.
const CLIENTS: &[&str] = &[
    "gatevisor status",
    "gatevisor --json status",
    "gatevisor doctor",
    "gatevisor profile list",
    "gatevisor profile show a",
    "gatevisor profile create made --start --timeout 5",
    "gatevisor gateway status a",
    "gatevisor gateway start a --timeout 5",
    "gatevisor gateway restart a --timeout 5",
    "gatevisor gateway stop a",
    "gatevisor profile delete made --yes",
    "gatevisor logs a -n 5",
    "gatevisor reconcile --dry-run",
    "gatevisor health",
    "gatevisor explain a",
    "gatevisor tree a",
    "gatevisor incidents",
    "gatevisor --home /srv/by-link status",
    "gatevisor --home /srv/by-link profile create linked",
    "gatevisor --home /srv/home --scandir /run/service profile create rooted --start --timeout 5",
    "gatevisor --home /srv/home --scandir /run/service status",
    "gatevisor --home /srv/home --scandir /run/service doctor",
    "hermes version",
    "/command/s6-svc -r /run/service/all",
    "/command/s6-svc -wu -T 3000 -u /run/service/all",
    "/command/s6-svc -O /run/service/all",
    "/command/s6-svstat /run/service/all",
    "/command/s6-svstat /run/service/linked",
    "/command/s6-svok /run/service/all",
    "/command/s6-svdt /run/service/all",
    "/command/s6-svdt-clear /run/service/all",
    "/command/s6-svwait -t 1000 -u /run/service/all",
    "/command/s6-svwait -t 300 -u /run/service/linked-event",
    "/command/s6-svscanctl -a /run/service",
    "/command/s6-svscanctl -h /run/service",
];

#[test]
fn no_path_of_root_leads_where_an_agent_says() {
    life(&[]);
}

#[test]
fn without_openat2_no_path_of_root_leads_where_an_agent_says() {
    life(&["-e", "inject=openat2:error=ENOSYS"]);
}

/// Traces a life, with further options of the tracer, and fails with a line for each wrong call.
fn life(more: &[&str]) {
    support::need_root();
    // Each call stops the traced process, and on a busy machine other processes run first.
    support::set_wait_limit(Duration::from_secs(200));
    let directory = tempfile::tempdir().unwrap();
    let trace = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut under: Vec<String> = TRACER.iter().chain(more).map(|&word| word.to_owned()).collect();
    under.extend(["-A".into(), "-o".into(), trace("boots")]);
    let mut cell = Cell::started(cell::Start { under, ..cell::Start::default() }).unwrap();
    for (user, words) in [(10_000, HOSTILE), (0, ROOTS)] {
        let (code, said) = cell.exec_as(user, &["/bin/bash", "-ec", words]);
        assert_eq!(code, 0, "{said}");
    }
    for (number, client) in CLIENTS.iter().enumerate() {
        let words: Vec<&str> = client.split(' ').collect();
        let inner = cell.command(0, &words);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "200"]).args(TRACER).args(more).arg("-o").arg(trace(&number.to_string()));
        command.arg(inner.get_program()).args(inner.get_args());
        let done = support::output(&mut command).expect("strace is installed; run: scripts/setup.sh test");
        assert_ne!(done.status.code(), Some(124), "`{client}` hangs");
    }
    cell.stop().unwrap();
    cell.boot().unwrap();
    cell.stop().unwrap();
    judge(directory.path());
}

fn judge(directory: &Path) {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let mut command = Command::new("python3");
        command.arg(JUDGE).arg(entry.unwrap().path()).args(OWNED);
        let output = support::output(&mut command).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let sum = String::from_utf8_lossy(&output.stderr).into_owned();
        let count = sum.split(' ').next().and_then(|word| word.parse::<u32>().ok());
        judged += count.unwrap_or_else(|| panic!("the judge failed: {sum}"));
        let is_right = |line: &&str| RIGHT.iter().any(|(call, _)| line.contains(call));
        wrong.extend(said.lines().filter(|line| !is_right(line)).map(str::to_owned));
    }
    wrong.sort();
    wrong.dedup();
    // If the tracer saw nothing, it would find nothing wrong.
    assert!(judged > 300, "only {judged} paths of root's were seen");
    assert!(wrong.is_empty(), "{} calls of root's can be led astray:\n{}", wrong.len(), wrong.join("\n"));
}
