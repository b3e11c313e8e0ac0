//! Waiting until gateways are idle, for every command that drains them first.
//!
//! *Lives here:* the wait, and the messages about it. *Does not live here:* draining
//! (`gatevisor_gateways::drain`), and the next step (`drain`, `profile`, `reload`).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gatevisor_gateways::desired::Provenance;
use gatevisor_gateways::drain::{self, DrainError, DrainOrder, DrainThen, HeldDrain};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_liveness::{DrainEnd, DrainStage};
use gatevisor_sys::signal::{SIGHUP, SIGINT, SIGTERM, SignalFd};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::units::{milliseconds, span, turns_words};
use crate::{interrupt, out};

/// The part of the time limit of a stop that a drain before it leaves for the stop itself.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// The result of a drain of several gateways.
#[derive(Default)]
pub struct DrainedGateways {
    /// Gateways that still take no new work.
    pub held: Vec<HeldDrain>,
    /// Gateways that are not up, so there was nothing to drain.
    pub not_up: Vec<ProfileName>,
    /// Profiles whose gateway is that of another profile, which is drained instead: each profile
    /// with that other one.
    pub served: Vec<(ProfileName, ProfileName)>,
    /// Gateways that cannot be drained, and are left alone.
    pub refused: Vec<(ProfileName, DrainError)>,
    /// The signal that ended the wait.
    pub cancelled_by: Option<i32>,
    /// When the wait began. A command that comes later has priority.
    pub since: Timestamp,
}

/// Drains gateways before they are deleted or renewed, for no longer than a stop may take. The next
/// step is done even to those that cannot be drained, and at once where their own stop drains them.
///
/// # Errors
/// A signal has ended the wait.
pub fn before(
    context: &CommandContext,
    names: &[ProfileName],
    command: &str,
    then: DrainThen,
) -> Result<Vec<HeldDrain>, CommandError> {
    let gateway = &context.manager.agent().gateway;
    if gateway.drain.as_ref().is_some_and(|drain| drain.when_stopped) {
        return Ok(Vec::new());
    }
    let stop = Duration::from_millis(gateway.stop_timeout_ms);
    let limit = stop.saturating_sub(STOP_MARGIN).max(Duration::from_secs(1));
    settled(wait_for(context, names, &order(command, limit, then)))
}

/// Like [`before`], for as long as the order says. Warns about gateways that are up and cannot be
/// drained.
///
/// # Errors
/// A signal has ended the wait.
pub fn within(
    context: &CommandContext,
    names: &[ProfileName],
    order: &DrainOrder,
) -> Result<Vec<HeldDrain>, CommandError> {
    let drained = wait_for(context, names, order);
    for (_, error) in &drained.refused {
        out::warn(&format!("not drained: {error}"));
    }
    for drain in drained.held.iter().filter(|drain| drain.end() == Some(&DrainEnd::Idle)) {
        say(context, drain, false);
    }
    settled(drained)
}

/// Returns the drains whose next step comes now. Prints which of them cut work off.
fn settled(drained: DrainedGateways) -> Result<Vec<HeldDrain>, CommandError> {
    if let Some(signal) = drained.cancelled_by {
        let mut failure = CommandError::new(Exit::No, "interrupted, and nothing was done to any gateway");
        failure.code = by_signal(signal);
        return Err(failure);
    }
    for drain in &drained.held {
        if let Some(DrainEnd::Limit(..) | DrainEnd::Failed(_)) = drain.end() {
            out::warn(&format!("{}: {}", drain.name(), words(drain, false)));
        }
        drain.take_back_at_its_end();
    }
    Ok(drained.held)
}

/// Returns the exit code of a command that a signal ended.
pub fn by_signal(signal: i32) -> u8 {
    u8::try_from(interrupt::BY_SIGNAL.saturating_add(signal)).unwrap_or(u8::MAX)
}

/// Returns the drain order of the command that this process carries out.
pub fn order(command: &str, limit: Duration, then: DrainThen) -> DrainOrder {
    DrainOrder { by: Provenance::here(command), limit, then }
}

/// Drains gateways. Returns when all are idle, when the time is over, or after a signal.
pub fn wait_for(context: &CommandContext, names: &[ProfileName], order: &DrainOrder) -> DrainedGateways {
    // From here on, a signal makes this process take its requests back. After SIGKILL, the watcher
    // of gateways does that.
    let heeded = interrupt::heeded(&[SIGINT, SIGTERM, SIGHUP]);
    let signals = SignalFd::new(&heeded).ok();
    let mut drained = DrainedGateways { since: Timestamp::now(), ..DrainedGateways::default() };
    let began = Instant::now();
    for name in names {
        // All drains have the same end, however long one takes to begin.
        let order = DrainOrder { limit: order.limit.saturating_sub(began.elapsed()), ..order.clone() };
        match HeldDrain::begin(&context.manager, name, &order) {
            Ok(held) => drained.held.push(held),
            Err(DrainError::NotUp { name }) => drained.not_up.push(name),
            Err(DrainError::Served { name, by }) if names.contains(&by) => drained.served.push((name, by)),
            Err(error) => drained.refused.push((name.clone(), error)),
        }
    }
    let is_spoken = !context.json;
    drain::run(&mut drained.held, signals.as_ref().map(AsFd::as_fd), &mut |drain| {
        if is_spoken && drain.machine().is_under_way() {
            out::say(format_args!("{}: {}", drain.name(), progress(drain)));
        }
    });
    let is_cancelled = drained.held.iter().any(|drain| drain.end() == Some(&DrainEnd::Cancelled));
    let signal = || signals.as_ref().and_then(|signals| signals.next().ok().flatten());
    drained.cancelled_by = is_cancelled.then(|| signal().unwrap_or(SIGTERM));
    // The next step handles signals in its own way.
    let _ = gatevisor_sys::signal::unblock(&heeded);
    drained
}

/// Prints how a drain has ended that has a next step. Without a next step, its end is a result.
pub fn say(context: &CommandContext, drain: &HeldDrain, nothing_follows: bool) {
    if context.json || nothing_follows {
        return;
    }
    let words = format!("{}: {}", drain.name(), words(drain, nothing_follows));
    match drain.end() {
        Some(DrainEnd::Limit(..)) => out::warn(&words),
        Some(DrainEnd::Idle | DrainEnd::Ended) => out::say(words),
        _ => {}
    }
}

/// Returns how a drain has ended, as text.
pub fn words(drain: &HeldDrain, nothing_follows: bool) -> String {
    let took = took(drain);
    match drain.end() {
        Some(DrainEnd::Idle) if nothing_follows => "the time is over, and it takes work again".to_owned(),
        Some(DrainEnd::Idle) => format!("idle after {took}"),
        Some(DrainEnd::Ended) => format!("its process ended by itself after {took}"),
        Some(DrainEnd::Cancelled) | None => format!("cancelled after {took}, and it takes work again"),
        Some(DrainEnd::Failed(why)) => format!("it cannot be asked to drain: {why}"),
        Some(DrainEnd::Limit(turns, stage)) => format!(
            "{} after {took}{}",
            not_idle(*turns, *stage),
            match drain.ends_work_when_stopped() {
                _ if nothing_follows => "; it takes work again",
                true => "; that is left to its own stop",
                false => ", and that is cut off",
            }
        ),
    }
}

/// Returns the JSON fields about a drain.
pub fn fields(drain: &HeldDrain, nothing_follows: bool) -> [(&'static str, Value); 4] {
    let ms = u64::try_from(drain.took().as_millis()).unwrap_or(u64::MAX);
    [
        ("drained", json!(matches!(drain.end(), Some(DrainEnd::Idle | DrainEnd::Ended)))),
        ("turns", json!(drain.machine().turns())),
        ("drain", json!(words(drain, nothing_follows))),
        ("drain_ms", json!(ms)),
    ]
}

fn took(drain: &HeldDrain) -> String {
    milliseconds(u64::try_from(drain.took().as_millis()).unwrap_or(u64::MAX))
}

fn not_idle(turns: Option<u32>, stage: DrainStage) -> String {
    match (stage, turns) {
        (DrainStage::Draining | DrainStage::Idle, Some(turns)) => {
            format!("{} still under way", turns_words(turns))
        }
        (DrainStage::Draining | DrainStage::Idle, None) => "work still under way".to_owned(),
        (DrainStage::Asked, Some(turns)) => {
            format!("it has not said that it takes no new work, with {} under way", turns_words(turns))
        }
        (DrainStage::Asked, None) => "it has not said that it takes no new work".to_owned(),
        (DrainStage::Unknown, _) => "nothing told whether it has work".to_owned(),
    }
}

fn progress(drain: &HeldDrain) -> String {
    let machine = drain.machine();
    let left = span(drain.left().as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX));
    match (machine.stage(), machine.turns(), machine.why_unknown()) {
        (DrainStage::Asked, ..) => format!("asked to take no new work, {left} left"),
        (DrainStage::Draining, Some(turns), _) => format!("draining, {} left, {left}", turns_words(turns)),
        (DrainStage::Draining, None, _) => format!("draining, {left} left"),
        (DrainStage::Idle, ..) => format!("idle, and kept from new work for {left}; Ctrl-C ends that"),
        (DrainStage::Unknown, _, why) => {
            format!("draining, {left} left; nothing tells whether it has work: {}", why.unwrap_or_default())
        }
    }
}
