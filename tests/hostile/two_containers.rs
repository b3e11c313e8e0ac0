//! Two containers on one volume, whose agent tries to run its gateways in both.
//!
//! The promise is about starts and ends. No gateway starts in a container that does not hold the
//! lock of the home, whoever asks for the start. The keeper of the lock, when it learns that the
//! lock was lost, ends the running gateways. Until then they run in both.

use crate::bed::ATTACKER;
use crate::cell::{self, Cell};
use crate::layout::Layout;
use crate::support::waiting;

/// Makes the agent's profile, whose gateway shall run.
const PROFILE: &str = "cd /opt/data; mkdir -p profiles/coder; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > profiles/coder/gateway_state.json";
/// Prints the process numbers of the profile's gateways that run here.
const GATEWAYS: &str = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^sleep infinity' && tr '\\0' '\\n' < $p/environ | grep -q \
                        HERMES_S6_SUPERVISED_CHILD && echo ${p#/proc/}; done 2>/dev/null; true";
/// Prints the process numbers of the services that keep the lock here.
const KEEPERS: &str = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -Eq 'gatevisor (profile-watcher|takeover)' && echo ${p#/proc/}; done 2>/dev/null; true";
/// Freezes these services, and returns when each of their threads has stopped.
const FREEZE: &str = "for p in KEEPERS; do kill -STOP $p; until ! grep -L 'State:.T' /proc/$p/task/*/status | grep -q .; do :; done; done";
/// What a refused start reports.
const REFUSED: &str = "asking for the lock of the home";

/// Runs a script as the agent, and returns its output.
fn agent(cell: &Cell, words: &str) -> String {
    let (code, said) = said(cell, words);
    assert_eq!(code, 0, "{words}: {said}");
    said.trim().to_owned()
}

fn said(cell: &Cell, words: &str) -> (i32, String) {
    cell.exec_as(ATTACKER, &["/bin/bash", "-c", words])
}

fn runs(cell: &Cell) -> bool {
    !agent(cell, GATEWAYS).is_empty()
}

/// Returns whether a container reports that it holds the lock of the home.
fn holds(cell: &Cell) -> bool {
    !agent(cell, "gatevisor status 2>&1").contains(".gatevisor.lock")
}

/// Two containers on one volume.
struct Pair {
    first: Cell,
    second: Cell,
    _image: cell::Image,
}

impl Pair {
    /// Starts a container that runs the gateway, runs `between` in it, and then starts another
    /// container.
    fn started(between: impl FnOnce(&Cell)) -> Self {
        let image = cell::image(Layout::Hermes);
        let mut first = Cell::started(cell::Start::default()).unwrap();
        agent(&first, PROFILE);
        first.stop().unwrap();
        first.boot().unwrap();
        waiting::polled("the gateway in the first container", || runs(&first).then_some(()));
        between(&first);
        let volume = first.directory().join("volume");
        let mounts =
            format!("umount \"$R/opt/data/mounted\"; mount --bind '{}' \"$R/opt/data\"", volume.display());
        let second = Cell::started(cell::Start { mounts, ..cell::Start::default() }).unwrap();
        Self { first, second, _image: image }
    }

    /// Waits until the container that holds the lock runs the gateway and the other does not.
    /// Returns that container, then the other.
    fn holder_and_other(&self) -> (&Cell, &Cell) {
        let works = |cell| holds(cell) && runs(cell);
        let waits = |cell| !holds(cell) && !runs(cell);
        let pairs = [(&self.first, &self.second), (&self.second, &self.first)];
        waiting::polled("the gateway to run in one container alone", || {
            pairs.into_iter().find(|(here, there)| works(here) && waits(there))
        })
    }
}

/// Asks in every way for a start that must not happen, and returns when it was refused.
fn refuses_a_start(cell: &Cell) {
    for verb in ["start", "restart --no-wait"] {
        let (code, told) = said(cell, &format!("gatevisor gateway {verb} coder"));
        assert!(code == 1 && told.contains("so nothing was done"), "{code}: {told}");
    }
    agent(cell, "rm -f /run/service/gateway-coder/data/start-error");
    agent(cell, "/command/s6-svscanctl -a /run/service");
    is_refused_by_its_interpreter(cell, "/command/s6-svc -u /run/service/gateway-coder");
    assert!(!runs(cell), "{}", cell.said());
}

/// Waits until the interpreter of `run` has refused the start that this script asks for.
fn is_refused_by_its_interpreter(cell: &Cell, words: &str) {
    waiting::polled("a start to be refused", || {
        agent(cell, words);
        let reason = said(cell, "cat /run/service/gateway-coder/data/start-error").1;
        reason.contains(REFUSED).then_some(())
    });
}

fn one_of_two_runs_gateways(words: &str) {
    let pair = Pair::started(|first| drop(agent(first, words)));
    let (here, there) = pair.holder_and_other();
    refuses_a_start(there);
    assert!(runs(here), "{}", here.said());
}

#[test]
fn a_lock_that_is_left_alone_keeps_the_second_container_from_gateways() {
    one_of_two_runs_gateways("true");
}

#[test]
fn a_container_that_waited_runs_the_gateway_when_the_one_that_held_the_lock_is_gone() {
    let mut pair = Pair::started(|_| ());
    refuses_a_start(&pair.second);
    pair.first.stop().unwrap();
    waiting::polled("the gateway in the second container", || runs(&pair.second).then_some(()));
    assert!(holds(&pair.second), "{}", pair.second.said());
}

#[test]
fn a_lock_that_is_moved_away_ends_the_gateways_of_one_container() {
    one_of_two_runs_gateways("mv /opt/data/.gatevisor.lock /opt/data/was-lock");
}

#[test]
fn a_lock_that_is_replaced_ends_the_gateways_of_one_container() {
    one_of_two_runs_gateways("cd /opt/data; : > new; mv new .gatevisor.lock");
}

#[test]
fn a_lock_that_is_a_directory_runs_no_gateway_twice() {
    // The keeper makes the file again, perhaps before the directory is there.
    one_of_two_runs_gateways(
        "cd /opt/data; n=0; until mv .gatevisor.lock was-lock$n && mkdir .gatevisor.lock; do n=$((n + 1)); done; mkdir .gatevisor.lock/x || :",
    );
}

#[test]
fn a_lock_that_is_a_link_to_another_ones_runs_no_gateway_twice() {
    one_of_two_runs_gateways(
        "cd /opt/data; mv .gatevisor.lock was-lock; ln -s was-lock .gatevisor.lock || :",
    );
}

#[test]
fn what_is_written_into_the_lock_and_its_modes_mean_nothing() {
    one_of_two_runs_gateways(
        "cd /opt/data; echo nothing > .gatevisor.lock; ln .gatevisor.lock again; chmod 000 .gatevisor.lock",
    );
}

#[test]
fn a_lock_that_is_replaced_again_and_again_runs_the_gateway_in_one_container_in_the_end() {
    one_of_two_runs_gateways(
        "cd /opt/data; for n in $(seq 50); do mv .gatevisor.lock was-lock$n 2>/dev/null; : > new; mv new .gatevisor.lock; done",
    );
}

#[test]
fn a_claim_that_nobody_keeps_locked_starts_no_gateway() {
    let pair = Pair::started(|_| ());
    let (_, there) = pair.holder_and_other();
    let identity = agent(there, "stat -c %d:%i /opt/data/.gatevisor.lock");
    agent(there, &format!("echo {identity} > /run/service/.home-lock"));
    refuses_a_start(there);
}

/// Makes the first container lose its lock after the script `words` has acted on its keepers.
/// `KEEPERS` in the script stands for their process numbers.
fn lost_unnoticed(words: &str) -> Pair {
    let pair = Pair::started(|first| {
        let keepers = waiting::polled("what keeps the lock", || {
            Some(agent(first, KEEPERS).replace('\n', " ")).filter(|keepers| !keepers.is_empty())
        });
        agent(first, &words.replace("KEEPERS", &keepers));
        agent(first, "cd /opt/data; mv .gatevisor.lock was-lock");
    });
    waiting::polled("the gateway in the second container", || runs(&pair.second).then_some(()));
    pair
}

fn a_container_that_lost_the_lock_unnoticed_starts_nothing_and_says_so(words: &str) {
    let pair = lost_unnoticed(words);
    let first = &pair.first;
    let (_, status) = said(first, "gatevisor status; gatevisor gateway status coder");
    assert!(status.matches("was replaced by another file").count() >= 2, "{status}");
    let (code, doctor) = said(first, "gatevisor doctor");
    let told = "gateways run here although this container does not hold the lock of the home";
    assert!(code == 1 && doctor.contains(told), "{doctor}");
    agent(first, "rm -f /run/service/gateway-coder/data/start-error");
    agent(first, &format!("kill -KILL $({GATEWAYS})"));
    is_refused_by_its_interpreter(first, "true");
    refuses_a_start(first);
    assert!(runs(&pair.second), "{}", pair.second.said());
}

#[test]
fn a_container_whose_keeper_is_frozen_starts_no_gateway_after_it_lost_the_lock() {
    a_container_that_lost_the_lock_unnoticed_starts_nothing_and_says_so(FREEZE);
}

#[test]
fn a_container_whose_keeper_is_withdrawn_starts_no_gateway_after_it_lost_the_lock() {
    a_container_that_lost_the_lock_unnoticed_starts_nothing_and_says_so(
        "mv /run/service/profile-watcher /run/service/.was; while kill -0 KEEPERS 2>/dev/null; do :; done",
    );
}

#[test]
fn what_doctor_proposes_ends_the_gateways_of_a_container_that_lost_the_lock_unnoticed() {
    let pair = lost_unnoticed(FREEZE);
    let (_, doctor) = said(&pair.first, "gatevisor doctor");
    let fix = doctor.lines().find_map(|line| line.trim().strip_prefix("fix:")).unwrap_or_default();
    assert!(fix.contains("s6-svc"), "{doctor}");
    agent(&pair.first, fix);
    waiting::polled("the gateway of the loser to end", || (!runs(&pair.first)).then_some(()));
    assert!(runs(&pair.second));
}
