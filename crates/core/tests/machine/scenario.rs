//! A scenario is a table: time, event, what the machine decides. Only this module knows the API.

use std::fmt::Write as _;
use std::time::Duration;

use gatevisor_core::machine::memory::OUT_OF_MEMORY;
use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_core::{Leftover, Machine, Now, ServiceEffect, ServiceEffects, ServiceInput, Tick};
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::policy::{PublishedPolicy, RestartPhase};
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::wait::WaitStatus;

/// The wall clock when the monotonic one shows 0.
const BEGIN: i64 = 1_800_000_000;

pub fn at(ms: u64) -> Now {
    let wall = Tai64n::from_unix(BEGIN, 0).checked_add(Duration::from_millis(ms)).expect("in range");
    Now { tick: Tick(ms), wall }
}

/// A restart policy without chance in it.
pub fn policy() -> RestartPolicy {
    RestartPolicy { jitter_percent: 0, ..RestartPolicy::default() }
}

/// Plays `scenario` against a service that is wanted up.
pub fn check(scenario: &str) {
    play(Rules::Native, true, &policy(), scenario);
}

/// Plays it against a service with a `down` file.
pub fn check_down(scenario: &str) {
    play(Rules::Native, false, &policy(), scenario);
}

/// Plays it with the timing of s6.
pub fn check_s6(scenario: &str) {
    play(Rules::S6, true, &policy(), scenario);
}

/// Plays it against a service whose earlier supervision was killed and left this process, if it is
/// known.
pub fn check_inherited(pid: Option<i32>, want_up: bool, scenario: &str) {
    let mut effects = ServiceEffects::new();
    let mut machine = Machine::new(at(0), Rules::Native, want_up, 1, &mut effects);
    effects.drain().for_each(drop);
    machine.inherit(pid.and_then(Pid::new), &mut effects);
    let said: Vec<String> = effects.drain().map(|effect| show(&effect)).collect();
    let begun = scenario.lines().map(str::trim).find(|line| !line.is_empty()).expect("a line");
    assert_eq!(format!("begin => {}", said.join(", ")), begun);
    let rest = scenario.split_once("begin").expect("begin").1.split_once('\n').expect("more").1;
    go_on(&mut machine, &mut effects, &policy(), rest);
}

/// Plays a scenario: each line is `TIME EVENT… => EFFECT, EFFECT…`; `until N` names the deadline
/// after it.
pub fn play(rules: Rules, want_up: bool, policy: &RestartPolicy, scenario: &str) {
    let mut effects = ServiceEffects::new();
    let mut machine = Machine::new(at(0), rules, want_up, 1, &mut effects);
    effects.drain().for_each(drop);
    go_on(&mut machine, &mut effects, policy, scenario);
}

fn go_on(machine: &mut Machine, effects: &mut ServiceEffects, policy: &RestartPolicy, scenario: &str) {
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once("=>").unwrap_or_else(|| panic!("no `=>` in `{line}`"));
        let (time, event) = left.trim().split_once(' ').unwrap_or_else(|| panic!("no event in `{line}`"));
        let now = at(time.parse().unwrap_or_else(|_| panic!("no time in `{line}`")));
        machine.step(now, parse(event.trim()), policy, effects);
        let mut said = String::new();
        for effect in effects.drain() {
            let separator = if said.is_empty() { "" } else { ", " };
            write!(said, "{separator}{}", show(&effect)).expect("a string takes everything");
        }
        if expected.contains("until ") {
            let separator = if said.is_empty() { "" } else { ", " };
            let deadline = machine.deadline().map_or_else(|| "never".to_owned(), |tick| tick.0.to_string());
            write!(said, "{separator}until {deadline}").expect("a string takes everything");
        }
        if said.is_empty() {
            said.push_str("nothing");
        }
        assert_eq!(said, expected.trim(), "in `{line}`");
    }
}

fn pid(word: &str) -> Pid {
    word.parse().ok().and_then(Pid::new).unwrap_or_else(|| panic!("`{word}` is no pid"))
}

fn parse(event: &str) -> ServiceInput {
    let words: Vec<&str> = event.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["control", byte] => ServiceInput::Control(
            Control::from_byte(byte.as_bytes()[0]).unwrap_or_else(|| panic!("no control `{byte}`")),
        ),
        ["forked", n] => ServiceInput::Forked(pid(n)),
        ["blocked"] => ServiceInput::Blocked,
        ["spawned"] => ServiceInput::Spawned,
        ["spawn-failed", why] => ServiceInput::SpawnFailed((*why).to_owned()),
        ["terminating", ms] => ServiceInput::Terminating(ms.parse().expect("a number")),
        ["finish-forked", n, ms] => ServiceInput::FinishForked(pid(n), ms.parse().expect("a number")),
        ["clear-forked", n, ms] => ServiceInput::ClearForked(pid(n), ms.parse().expect("a number")),
        ["clear-failed", why] => ServiceInput::ClearFailed((*why).to_owned()),
        ["ask-forked", n, ms] => ServiceInput::AskForked(pid(n), ms.parse().expect("a number")),
        ["ask-failed", why] => ServiceInput::AskFailed((*why).to_owned()),
        ["finish-absent"] => ServiceInput::FinishAbsent,
        ["exited", code] => ServiceInput::Exited(WaitStatus::exited(code.parse().expect("a code"))),
        ["out-of-memory"] => ServiceInput::OutOfMemory,
        ["killed", signal] => {
            ServiceInput::Exited(WaitStatus::killed(signal.parse().expect("a signal")).expect("a signal"))
        }
        ["ready"] => ServiceInput::Ready,
        ["deadline"] => ServiceInput::Deadline,
        ["shutdown"] => ServiceInput::Shutdown,
        ["withdraw", ms] => ServiceInput::Withdraw(ms.parse().expect("a number")),
        ["drain", ms] => ServiceInput::Drain(ms.parse().expect("a number")),
        ["kill-now"] => ServiceInput::KillNow,
        _ => panic!("no event `{event}`"),
    }
}

fn show(effect: &ServiceEffect) -> String {
    match effect {
        ServiceEffect::SpawnRun => "spawn-run".into(),
        ServiceEffect::SpawnFinish(pid, how) => format!("spawn-finish {pid} ({how})"),
        ServiceEffect::AskHandoff(pid, code) => format!("ask {pid} {code}"),
        ServiceEffect::Clear(Leftover::OfSupervision(None)) => "clear-orphans".into(),
        ServiceEffect::Clear(Leftover::OfSupervision(Some(pid))) => format!("clear-orphan {pid}"),
        ServiceEffect::Clear(Leftover::OfProcess(pid)) => format!("clear-survivors {pid}"),
        ServiceEffect::Signal(pid, n) => format!("signal {pid} {n}"),
        ServiceEffect::SignalGroup(pid, n) => format!("signal-group {pid} {n}"),
        ServiceEffect::Terminate(pid) => format!("terminate {pid}"),
        ServiceEffect::DownSignal(pid) => format!("down-signal {pid}"),
        ServiceEffect::ReloadSignal(pid) => format!("reload-signal {pid}"),
        ServiceEffect::KillOverdue(pid) => format!("kill {pid}"),
        ServiceEffect::CloseReadiness => "close-readiness".into(),
        ServiceEffect::RecordDeath(_) => "record-death".into(),
        ServiceEffect::PublishStatus(status) => show_status(status),
        ServiceEffect::PublishPolicy(policy) => show_policy(policy),
        ServiceEffect::Broadcast(events) => events.iter().map(|event| char::from(event.byte())).collect(),
        ServiceEffect::CreateDownFile => "make-down-file".into(),
        ServiceEffect::RemoveDownFile => "remove-down-file".into(),
        ServiceEffect::End => "end".into(),
    }
}

/// `up`, `finishing` or `down`, then `+` ready, `!` wanted the other way, `p` paused.
fn show_status(status: &Status) -> String {
    let word = match (status.pid, status.finishing) {
        (Some(_), false) => "status-up",
        (Some(_), true) => "status-finishing",
        (None, _) => "status-down",
    };
    let ready = if status.ready { "+" } else { "" };
    let against = if status.want_up == status.is_up() { "" } else { "!" };
    let paused = if status.paused { "p" } else { "" };
    format!("{word}{ready}{against}{paused}")
}

fn show_policy(policy: &PublishedPolicy) -> String {
    let until = policy.until.map_or_else(String::new, |until| {
        let ms = until.since(Tai64n::from_unix(BEGIN, 0)).expect("later").as_millis();
        format!(" until-{ms}")
    });
    let reason = policy.reason.as_ref().map_or_else(String::new, |reason| {
        if reason == OUT_OF_MEMORY { " [out of memory]".to_owned() } else { format!(" [{reason}]") }
    });
    let death = match policy.ran_ms.filter(|_| policy.phase == RestartPhase::Clearing) {
        Some(ms) => format!(" asked-{} ran-{ms} failures-{}", policy.asked, policy.failures),
        None => String::new(),
    };
    let commanded = if policy.commanded > 0 { format!("+{}", policy.commanded) } else { String::new() };
    format!("policy-{}#{}{commanded}{until}{death}{reason}", policy.phase.word(), policy.restarts)
}
