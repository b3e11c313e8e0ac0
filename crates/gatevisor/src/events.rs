//! `gatevisor events`: prints the events of services as they happen.

use std::time::Duration;

use anstyle::AnsiColor;
use gatevisor_client::ServiceDir;
use gatevisor_gateways::drain;
use gatevisor_gateways::inspect;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_liveness::Liveness;
use gatevisor_slot::start_permits;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::name::ServiceName;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::Choice;
use crate::context::CommandContext;
use crate::drain_watch::DrainNews;
use crate::event_subscriber::{EventSubscriber, Happened};
use crate::exit::{CommandError, DONE, Outcome};
use crate::out::{self, Text};
use crate::pauses::Pause;
use crate::served_watch::{ServedChange, ServedWatch};
use crate::{home_claim, status};

/// The time between two checks whether the supervisor still runs.
const SUPERVISOR_EVERY: Duration = Duration::from_secs(2);

/// Prints events until the reader goes or somebody presses Ctrl-C.
pub fn run(context: &CommandContext, choice: &Choice) -> Outcome {
    let only = status::only(context, choice)?;
    require_supervisor(context)?;
    let mut served = ServedWatch::new(&context.manager, only.clone());
    let mut subscriber = EventSubscriber::open(context.manager.scandir(), only)?;
    subscriber.wake_on(served.descriptor());
    loop {
        subscriber.receive(None, |name, happened| print(context, name, happened))?;
        for (profile, change) in served.take() {
            print_served(context, &profile, change)?;
        }
    }
}

/// Calls `on_object` with the object of each event, as long as a supervisor runs.
pub fn objects(context: &CommandContext, on_object: &mut dyn FnMut(Value)) -> Outcome {
    require_supervisor(context)?;
    let mut served = ServedWatch::new(&context.manager, Vec::new());
    let mut subscriber = EventSubscriber::open(context.manager.scandir(), Vec::new())?;
    subscriber.wake_on(served.descriptor());
    while context.supervisor_running()? {
        subscriber.receive(Some(SUPERVISOR_EVERY), |name, happened| {
            on_object(object(context, name, happened));
            Ok(())
        })?;
        for (profile, change) in served.take() {
            on_object(served_object(&profile, change));
        }
    }
    DONE
}

fn require_supervisor(context: &CommandContext) -> Result<(), CommandError> {
    if !context.supervisor_running()? {
        return Err(home_claim::not_supervised(context));
    }
    Ok(())
}

/// Returns an event as a JSON object.
fn object(context: &CommandContext, name: &ServiceName, happened: Happened) -> Value {
    let (word, _, event) = words(happened);
    let (cause, queued) = details(context, name, happened);
    json!({
        "cause": cause,
        "queued": queued,
        "served": null,
        "time": Timestamp::now().to_string(),
        "service": name.to_string(),
        "profile": ProfileName::of_service(name.as_bytes()).as_ref().map(ProfileName::as_str),
        "event": word,
        "byte": event.map(|event| char::from(event.byte()).to_string()),
    })
}

/// Returns the cause of a death, and the number of starts before one that waits.
fn details(
    context: &CommandContext,
    name: &ServiceName,
    happened: Happened,
) -> (Option<String>, Option<usize>) {
    // The event does not tell that the kernel killed it.
    let dir = ServiceDir::new(context.manager.scandir().join(name.to_string()));
    let cause = matches!(happened, Happened::ServiceEvent(ServiceEvent::Died)).then(|| cause(&dir)).flatten();
    let is_begun = happened == Happened::Drain(DrainNews::Begun);
    let drained = || drain::words_of(context.manager.scandir(), &name.to_string());
    let cause = cause.or_else(|| is_begun.then(drained).flatten());
    let is_after = happened == Happened::QueuedAfter;
    let cause = cause.or_else(|| is_after.then(|| after(context, name)).flatten());
    (cause, if let Happened::Queued(before) = happened { Some(before) } else { None })
}

/// Returns after which start a service starts, if it still waits for that.
fn after(context: &CommandContext, name: &ServiceName) -> Option<String> {
    let permits = start_permits::all(context.manager.scandir());
    let service = name.to_string();
    let (_, delay) = permits.delayed().find(|(permit, _)| permit.service == service)?;
    delay.after().map(|other| inspect::after_words(&other))
}

fn print(context: &CommandContext, name: &ServiceName, happened: Happened) -> Result<(), CommandError> {
    if context.json {
        return out::json(&object(context, name, happened));
    }
    let (word, colour, _) = words(happened);
    let (cause, queued) = details(context, name, happened);
    let shown = ProfileName::shown_of(&name.to_string());
    let before = queued.map(|before| format!("{before} before it"));
    line(&shown, (word, colour), cause.or(before))
}

/// Prints that the gateway of another profile serves a profile, or no longer does.
fn print_served(
    context: &CommandContext,
    profile: &ProfileName,
    change: ServedChange,
) -> Result<(), CommandError> {
    if context.json {
        return out::json(&served_object(profile, change));
    }
    let (word, colour, pid, cause) = served_words(change);
    let by = ProfileName::root();
    let by = pid.map(|pid| format!("by {by} (pid {pid})"));
    line(profile.as_str(), (word, colour), cause.or(by))
}

/// Returns the word for such an event, its colour, the process that serves the profile, and why no
/// process does.
fn served_words(change: ServedChange) -> (&'static str, AnsiColor, Option<i32>, Option<String>) {
    match change {
        ServedChange::Served(pid) => ("served", AnsiColor::Green, Some(pid), None),
        ServedChange::NotServed(why) => ("not served", AnsiColor::Yellow, None, why),
    }
}

fn served_object(profile: &ProfileName, change: ServedChange) -> Value {
    let (word, _, pid, cause) = served_words(change);
    let by = ProfileName::root();
    json!({
        "cause": cause,
        "queued": null,
        "served": pid.map(|pid| json!({ "by": by, "pid": pid })),
        "time": Timestamp::now().to_string(),
        "service": profile.service_entry(),
        "profile": profile,
        "event": word,
        "byte": null,
    })
}

/// Prints a line for people.
fn line(name: &str, (word, colour): (&str, AnsiColor), why: Option<String>) -> Result<(), CommandError> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let because = why.map_or_else(String::new, |why| format!(": {why}"));
    let line = Text::from(format_args!("{now} {name} "));
    out::line(line.styled(out::colour(colour), word).and(because))
}

/// Returns the cause of a service's last death, if its supervisor knows more than the signal.
fn cause(dir: &ServiceDir) -> Option<String> {
    let is_killed = dir.deaths().last().is_some_and(|death| death.signal == gatevisor_wire::signal::KILL);
    let policy = dir.policy().filter(|_| is_killed)?;
    policy.cause_of_death().map(str::to_owned)
}

/// Returns the word for an event, its colour, and its event byte in JSON.
fn words(happened: Happened) -> (&'static str, AnsiColor, Option<ServiceEvent>) {
    match happened {
        Happened::Starting => ("starting", AnsiColor::Yellow, None),
        Happened::Queued(_) | Happened::QueuedAfter => ("queued", AnsiColor::Yellow, None),
        Happened::Up => ("up", AnsiColor::Green, Some(ServiceEvent::Up)),
        Happened::FailedToStart => ("failed to start", AnsiColor::Red, None),
        Happened::Live(state) => (state.word(), live_colour(state), None),
        Happened::Pause(Pause::Paused) => ("paused", AnsiColor::Yellow, None),
        Happened::Pause(Pause::Continued) => ("continued", AnsiColor::Green, None),
        Happened::Drain(DrainNews::Begun) => ("draining", AnsiColor::Yellow, None),
        Happened::Drain(DrainNews::Idle) => ("drained", AnsiColor::Yellow, None),
        Happened::Drain(DrainNews::Over) => ("drain over", AnsiColor::Green, None),
        Happened::ServiceEvent(event) => {
            let (word, colour) = words_of(event);
            (word, colour, Some(event))
        }
    }
}

const fn live_colour(state: Liveness) -> AnsiColor {
    match state {
        Liveness::Live | Liveness::Up => AnsiColor::Green,
        Liveness::Starting
        | Liveness::Degraded
        | Liveness::Draining
        | Liveness::Paused
        | Liveness::Traced => AnsiColor::Yellow,
        Liveness::Unresponsive => AnsiColor::Red,
    }
}

const fn words_of(event: ServiceEvent) -> (&'static str, AnsiColor) {
    match event {
        ServiceEvent::SupervisionStarted => ("supervised", AnsiColor::Blue),
        ServiceEvent::Up => ("up", AnsiColor::Green),
        ServiceEvent::Ready => ("ready", AnsiColor::Green),
        ServiceEvent::Died => ("died", AnsiColor::Red),
        ServiceEvent::Finished => ("down", AnsiColor::Yellow),
        ServiceEvent::PermanentFailure => ("failed", AnsiColor::Red),
        ServiceEvent::SupervisionEnded => ("released", AnsiColor::Blue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::files;
    use gatevisor_wire::policy::PublishedPolicy;
    use gatevisor_wire::tai::Tai64n;
    use gatevisor_wire::tally::{self, Death};

    #[test]
    fn only_of_a_kill_the_supervisor_knows_more_than_the_signal() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ServiceDir::new(temp.path());
        std::fs::create_dir(temp.path().join(files::SUPERVISE)).unwrap();
        assert_eq!(cause(&dir), None);
        let reason = Some("out of memory: the kernel killed it".to_owned());
        let policy = PublishedPolicy { reason: reason.clone(), ..PublishedPolicy::default() };
        std::fs::write(temp.path().join(files::POLICY), policy.encode()).unwrap();
        for (signal, expected) in [(gatevisor_wire::signal::KILL, reason), (15, None), (0, None)] {
            let death = Death { at: Tai64n::from_unix(5, 0), exit_code: 3, signal };
            std::fs::write(temp.path().join(files::DEATH_TALLY), tally::encode_all(&[death])).unwrap();
            assert_eq!(cause(&dir), expected, "{signal}");
        }
    }
}
