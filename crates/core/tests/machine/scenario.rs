//! A scenario is a table: time, event, what the machine decides. Only this module knows the API.

use std::fmt::Write as _;
use std::time::Duration;

use gatevisor_core::machine::memory::OUT_OF_MEMORY;
use gatevisor_core::restart::{Numbers, Rules};
use gatevisor_core::{Effect, Effects, Event, Leftover, Machine, Moment, Tick};
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::policy::Policy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::wait::WaitStatus;

/// The wall clock when the monotonic one shows 0.
const BEGIN: i64 = 1_800_000_000;

pub fn at(ms: u64) -> Moment {
    let wall = Tai64n::from_unix(BEGIN, 0).checked_add(Duration::from_millis(ms)).expect("in range");
    Moment { tick: Tick(ms), wall }
}

/// Numbers without chance in them.
pub fn numbers() -> Numbers {
    Numbers { jitter_percent: 0, ..Numbers::default() }
}

/// Plays `scenario` against a service that is wanted up.
pub fn check(scenario: &str) {
    play(Rules::Native, true, &numbers(), scenario);
}

/// Plays it against a service with a `down` file.
pub fn check_down(scenario: &str) {
    play(Rules::Native, false, &numbers(), scenario);
}

/// Plays it with the timing of s6.
pub fn check_s6(scenario: &str) {
    play(Rules::S6, true, &numbers(), scenario);
}

/// Plays it against a service whose earlier supervision was killed and left this process, if it is known.
pub fn check_inherited(pid: Option<i32>, want_up: bool, scenario: &str) {
    let mut effects = Effects::new();
    let mut machine = Machine::new(at(0), Rules::Native, want_up, 1, &mut effects);
    effects.drain().for_each(drop);
    machine.inherit(pid.and_then(Pid::new), &mut effects);
    let said: Vec<String> = effects.drain().map(|effect| show(&effect)).collect();
    let begun = scenario.lines().map(str::trim).find(|line| !line.is_empty()).expect("a line");
    assert_eq!(format!("begin => {}", said.join(", ")), begun);
    let rest = scenario.split_once("begin").expect("begin").1.split_once('\n').expect("more").1;
    go_on(&mut machine, &mut effects, &numbers(), rest);
}

/// Plays a scenario: each line is `TIME EVENT… => EFFECT, EFFECT…`; `until N` names the deadline after it.
pub fn play(rules: Rules, want_up: bool, numbers: &Numbers, scenario: &str) {
    let mut effects = Effects::new();
    let mut machine = Machine::new(at(0), rules, want_up, 1, &mut effects);
    effects.drain().for_each(drop);
    go_on(&mut machine, &mut effects, numbers, scenario);
}

fn go_on(machine: &mut Machine, effects: &mut Effects, numbers: &Numbers, scenario: &str) {
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once("=>").unwrap_or_else(|| panic!("no `=>` in `{line}`"));
        let (time, event) = left.trim().split_once(' ').unwrap_or_else(|| panic!("no event in `{line}`"));
        let now = at(time.parse().unwrap_or_else(|_| panic!("no time in `{line}`")));
        machine.step(now, parse(event.trim()), numbers, effects);
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

fn parse(event: &str) -> Event {
    let words: Vec<&str> = event.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["control", byte] => Event::Control(
            Control::from_byte(byte.as_bytes()[0]).unwrap_or_else(|| panic!("no control `{byte}`")),
        ),
        ["forked", n] => Event::Forked(pid(n)),
        ["blocked"] => Event::Blocked,
        ["spawned"] => Event::Spawned,
        ["spawn-failed", why] => Event::SpawnFailed((*why).to_owned()),
        ["terminating", ms] => Event::Terminating(ms.parse().expect("a number")),
        ["finish-forked", n, ms] => Event::FinishForked(pid(n), ms.parse().expect("a number")),
        ["clear-forked", n, ms] => Event::ClearForked(pid(n), ms.parse().expect("a number")),
        ["clear-failed", why] => Event::ClearFailed((*why).to_owned()),
        ["finish-absent"] => Event::FinishAbsent,
        ["exited", code] => Event::Exited(WaitStatus::exited(code.parse().expect("a code"))),
        ["out-of-memory"] => Event::OutOfMemory,
        ["killed", signal] => {
            Event::Exited(WaitStatus::killed(signal.parse().expect("a signal")).expect("a signal"))
        }
        ["ready"] => Event::Ready,
        ["deadline"] => Event::Deadline,
        ["shutdown"] => Event::Shutdown,
        ["withdraw", ms] => Event::Withdraw(ms.parse().expect("a number")),
        ["drain", ms] => Event::Drain(ms.parse().expect("a number")),
        ["kill-now"] => Event::KillNow,
        _ => panic!("no event `{event}`"),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::SpawnRun => "spawn-run".into(),
        Effect::SpawnFinish(pid, how) => format!("spawn-finish {pid} ({how})"),
        Effect::Clear(Leftover::OfSupervision(None)) => "clear-orphans".into(),
        Effect::Clear(Leftover::OfSupervision(Some(pid))) => format!("clear-orphan {pid}"),
        Effect::Clear(Leftover::OfProcess(pid)) => format!("clear-survivors {pid}"),
        Effect::Signal(pid, n) => format!("signal {pid} {n}"),
        Effect::SignalGroup(pid, n) => format!("signal-group {pid} {n}"),
        Effect::Terminate(pid) => format!("terminate {pid}"),
        Effect::DownSignal(pid) => format!("down-signal {pid}"),
        Effect::ReloadSignal(pid) => format!("reload-signal {pid}"),
        Effect::KillOverdue(pid) => format!("kill {pid}"),
        Effect::CloseReadiness => "close-readiness".into(),
        Effect::RecordDeath(_) => "record-death".into(),
        Effect::PublishStatus(status) => show_status(status),
        Effect::PublishPolicy(policy) => show_policy(policy),
        Effect::Broadcast(letters) => letters.iter().map(|letter| char::from(letter.byte())).collect(),
        Effect::CreateDownFile => "make-down-file".into(),
        Effect::RemoveDownFile => "remove-down-file".into(),
        Effect::End => "end".into(),
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

fn show_policy(policy: &Policy) -> String {
    let until = policy.until.map_or_else(String::new, |until| {
        let ms = until.since(Tai64n::from_unix(BEGIN, 0)).expect("later").as_millis();
        format!(" until-{ms}")
    });
    let reason = policy.reason.as_ref().map_or_else(String::new, |reason| {
        if reason == OUT_OF_MEMORY { " [out of memory]".to_owned() } else { format!(" [{reason}]") }
    });
    let commanded = if policy.commanded > 0 { format!("+{}", policy.commanded) } else { String::new() };
    format!("policy-{}#{}{commanded}{until}{reason}", policy.phase.word(), policy.restarts)
}
