//! Profiles that come and go without a command to the supervisor: renamed, imported, cloned,
//! copied, restored, removed.
//!
//! New profiles get a slot that is down, vanished profiles lose theirs, and no request is made
//! twice.

use crate::engine::{Container, Volume, container, skipped};
use crate::hermes::{CALM, start};

const WATCHER: &str = "profile-watcher";

fn is_down(container: &Container, profile: &str) {
    let state = container.state(&format!("gateway-{profile}"));
    assert!(state.starts_with("down"), "{profile}: {state}; {}", container.said());
}

fn no_slot(container: &Container, profile: &str) {
    container.sh(&format!("! test -e /run/service/gateway-{profile}"));
}

fn desired_state(container: &Container, profile: &str) -> String {
    container.sh(&format!(
        "python3 -c 'import json; print(json.load(open(\"/opt/data/profiles/{profile}/gateway_state.json\")).get(\"desired_state\"))'"
    ))
}

#[test]
fn a_renamed_profile_takes_its_desired_state_along_and_waits_to_be_started() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    container.hermes("profile create old").ok();
    start(&container, "old");
    container.hermes("profile rename old new").ok();
    container.says("profile old is gone, and its gateway with it");
    container
        .says("profile new is new: its gateway has a slot, and is down; its desired state to run counts");
    no_slot(&container, "old");
    container.sh("! test -e /opt/data/profiles/old && ! pgrep -f '[h]ermes -p old'");
    is_down(&container, "new");
    assert_eq!(desired_state(&container, "new"), "running");
    // The next command finds the slot, however soon it comes.
    container.sh("hermes profile rename new newer && hermes -p newer gateway start");
    container.waits("-u", "gateway-newer");
    container.restart();
    container.waits("-u", "gateway-newer");
    no_slot(&container, "new");
}

#[test]
fn an_imported_profile_is_down_whatever_it_says_and_can_be_started() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    container.hermes("profile create origin").ok();
    container.sh(
        "echo '{\"gateway_state\": \"running\", \"desired_state\": \"running\"}' > /opt/data/profiles/origin/gateway_state.json; \
         cd /tmp && tar -C /opt/data/profiles -czf origin.tar.gz origin && hermes profile import origin.tar.gz --name copy",
    );
    let said = container.says("profile copy is new");
    assert!(said.ends_with("`gatevisor gateway start copy`"), "{said}");
    is_down(&container, "copy");
    is_down(&container, "origin");
    container.sh("hermes profile import /tmp/origin.tar.gz --name again && hermes -p again gateway start");
    container.waits("-u", "gateway-again");
}

#[test]
fn what_is_copied_cloned_and_removed_by_hand_is_noticed() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    // The marker is the last file of one copy and the first file of the other.
    container
        .sh("cd /opt/data/profiles && mkdir late && echo x > late/config.yaml && echo soul > late/SOUL.md");
    container.says("profile late is new");
    is_down(&container, "late");
    container.sh("cd /opt/data/profiles && cp -a late copied && mkdir none && mkdir Bad.Name && touch Bad.Name/SOUL.md");
    container.says("profile copied is new");
    container.says("Bad.Name is no profile");
    let cloned = container.hermes("profile create clone --clone-from late");
    assert!(!format!("{}{}", cloned.out, cloned.err).contains("Could not register"), "{cloned:#?}");
    cloned.ok();
    is_down(&container, "clone");
    // An editor that replaces the marker changes nothing, and a slot that was removed on purpose is
    // not made again.
    container.sh(
        "cd /opt/data/profiles && echo other > late/.new && mv late/.new late/SOUL.md && rm copied/SOUL.md",
    );
    container.exec(&["gatevisor", "gateway", "unregister", "clone"]);
    start(&container, "late");
    // Its gateway is ended as soon as the first files are gone, and writes as long as it ends.
    container.sh("cd /opt/data/profiles; until rm -rf late 2>&1; do :; done");
    container.says("profile late is gone");
    no_slot(&container, "late");
    container.sh("! pgrep -f '[h]ermes -p late'; test -e /run/service/gateway-copied; ! test -e /run/service/gateway-none");
    assert!(!container.said().contains("profile copied is gone"), "{}", container.said());
    assert_eq!(container.stop(), 0, "{}", container.said());
}

#[test]
fn the_unmodified_command_and_the_watcher_never_disturb_each_other() {
    if skipped() {
        return;
    }
    let container = container().started();
    let script = "import hermes_cli.profiles as p
for i in range(40):
    p.create_profile(f'p{i % 4}')
    p.delete_profile(f'p{i % 4}', yes=True)
p.create_profile('stays')";
    let answer = container.exec(&["/opt/hermes/.venv/bin/python", "-c", script]);
    let said = format!("{}{}", answer.ok(), answer.err);
    assert!(!said.contains('⚠') && !said.contains("Traceback"), "{said}");
    assert_eq!(said.matches("deleted.").count(), 40, "{said}");
    is_down(&container, "stays");
    // The watcher may still be dealing with the last of them.
    container.sh("timeout 40 sh -c 'until test \"$(ls -A /run/service | grep -c \"^[.]*gateway-p\\|^[.]new\\|^[.]gone\")\" = 0; do :; done'");
    assert!(!container.said().contains("warning"), "{}", container.said());
}

#[test]
fn more_changes_than_the_kernel_remembers_are_found_all_the_same() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.hermes("profile create before").ok();
    // While the watcher is stopped, its queue overflows.
    container.exec(&["/command/s6-svc", "-p", &format!("/run/service/{WATCHER}")]).ok();
    let script = "import os
os.chdir('/opt/data/profiles')
for i in range(int(open('/proc/sys/fs/inotify/max_queued_events').read())):
    os.mkdir(f'x{i % 7}'); os.rmdir(f'x{i % 7}')
os.rename('before', 'after')
for name in ('one', 'two'):
    os.mkdir(name); open(f'{name}/SOUL.md', 'w').close()";
    container.exec(&["/opt/hermes/.venv/bin/python", "-c", script]).ok();
    container.exec(&["/command/s6-svc", "-c", &format!("/run/service/{WATCHER}")]).ok();
    for name in ["after", "one", "two"] {
        container.says(&format!("profile {name} is new"));
        is_down(&container, name);
    }
    container.says("profile before is gone");
    no_slot(&container, "before");
}

#[test]
fn an_idle_watcher_is_not_woken_by_gateways_and_is_as_unprivileged_as_they_are() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.hermes("profile create worker").ok();
    container.sh("mkdir /opt/data/profiles/later");
    container.sh("echo > /opt/data/profiles/later/SOUL.md");
    container.says("profile later is new");
    let pid = container.pid(WATCHER);
    // The watcher watches the directory of profiles and the lock of the home. It sleeps without a
    // timeout.
    let script = format!(
        "cat /proc/{pid}/fdinfo/* | grep -c ^inotify; stat -c %u /proc/{pid}; grep CapEff /proc/{pid}/status | tr -d '\\t'"
    );
    assert_eq!(container.sh(&script), "2\n10000\nCapEff:0000000000000000");
    let wakes = format!("awk '/^voluntary/ {{ print $2 }}' /proc/{pid}/status");
    // It looks at each new slot once more when that has settled, so the first measurements may be
    // too early.
    let is_idle = || {
        let before = container.sh(&wakes);
        container.sh("cd /opt/data; for i in $(seq 50); do echo $i > profiles/worker/file$i; echo $i > state$i; rm state$i; done");
        container.sh(&wakes) == before
    };
    assert!((0..10).any(|_| is_idle()));
}

#[test]
fn profiles_that_are_replaced_as_a_whole_are_new_ones() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.hermes("profile create kept").ok();
    container.hermes("profile create lost").ok();
    container.sh("cd /opt/data && mv profiles profiles.old");
    container.says("profile kept is gone");
    container.says("profile lost is gone");
    container.sh(
        "cd /opt/data && mkdir restored && cp -a profiles.old/kept restored/back && mv restored profiles",
    );
    container.says("profile back is new");
    is_down(&container, "back");
    no_slot(&container, "kept");
    no_slot(&container, "lost");
}

#[test]
fn of_two_containers_one_volume_the_one_that_runs_the_gateways_watches() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let begin = || volume.home_of(container().env(CALM.0, CALM.1)).started();
    let first = begin();
    first.hermes("profile create old").ok();
    let second = begin();
    is_down(&second, "old");
    first.hermes("profile rename old new").ok();
    first.says("profile new is new");
    first.hermes("-p new gateway start").ok();
    first.waits("-u", "gateway-new");
    no_slot(&second, "new");
    second.sh("! test -e /run/service/profile-watcher && test -e /run/service/takeover");
    assert_eq!(first.stop(), 0, "{}", first.said());
    // The second container finds what it missed, starts the gateways that shall run, and watches
    // from then on.
    second.says("profile new is new");
    second.says("profile old is gone");
    second.waits("-u", "gateway-new");
    no_slot(&second, "old");
    second.sh("cp -a /opt/data/profiles/new /opt/data/profiles/newer");
    second.says("profile newer is new");
    is_down(&second, "newer");
}
