//! `gatevisor status` and `gatevisor gateway status`: one table, or everything about one gateway.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use anstyle::AnsiColor;
use gatevisor_client::OURS;
use gatevisor_gateways::inspect::{self, DeathReport, ServiceReport, ServiceState};
use gatevisor_gateways::profile::ProfileName;

use crate::context::CommandContext;
use crate::event_subscriber::EventSubscriber;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::liveness_words;
use crate::out::{self, BOLD, DIM, Text, TextTable, colour};
use crate::screen::Screen;
use crate::units::{milliseconds, size, span};

/// How often a watched table is shown again although nothing changed: uptimes and memory do.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// The column that is shortened where the terminal is too narrow, and its columns at the least; `gateway status` has all of it.
const STATE: usize = 1;
const STATE_AT_LEAST: usize = 16;

/// Rows of a screen that a watched table leaves free: for the cursor, and for a word about the supervisor.
const ROWS_KEPT: usize = 2;

/// Prints the table, once or again and again.
pub fn run(context: &CommandContext, names: &[OsString], watch: bool) -> Outcome {
    let only: Vec<ProfileName> =
        names.iter().map(|name| context.named(Some(name))).collect::<Result<_, _>>()?;
    // That it is ours goes without saying.
    if !context.json
        && let Some(program) = context.manager.supervisor_program().filter(|program| program != OURS)
    {
        let scandir = context.manager.scandir().display();
        out::say(format_args!("{program} supervises `{scandir}`"));
    }
    if !watch {
        let unknown = show(context, &only, None)?;
        return if unknown { Ok(Exit::System.code()) } else { DONE };
    }
    show(context, &only, Screen::of_stdout())?;
    let mut subscriber = EventSubscriber::open(context.manager.scandir(), only.clone())?;
    loop {
        subscriber.receive(Some(WATCH_EVERY), |_, _| Ok(()))?;
        // It may have another size by now.
        let screen = Screen::of_stdout();
        if !context.json {
            if screen.is_some() { out::clear_screen()? } else { out::empty_line()? }
        }
        show(context, &only, screen)?;
    }
}

/// Prints the table of everything.
pub fn table(context: &CommandContext) -> Result<(), CommandError> {
    show(context, &[], None).map(drop)
}

/// Prints the table, and returns whether it cannot be told how a gateway is.
fn show(
    context: &CommandContext,
    only: &[ProfileName],
    screen: Option<Screen>,
) -> Result<bool, CommandError> {
    let reports = if only.is_empty() {
        inspect::survey(&context.manager)?
    } else {
        only.iter().map(|name| row(context, name)).collect::<Result<_, _>>()?
    };
    let is_supervised = context.supervisor_running()?;
    let unknown =
        reports.iter().any(|report| report.profile.is_some() && report.state == ServiceState::Unknown);
    if context.json {
        return reports.iter().try_for_each(out::json).map(|()| unknown);
    }
    if !is_supervised {
        out::say(format_args!(
            "no supervisor is running on `{}`; `gatevisor up` starts one",
            context.manager.scandir().display()
        ));
    }
    let standing = context.manager.standing();
    if !standing.allows() {
        out::warn(&standing.to_string());
    }
    let mut table =
        TextTable::new(["PROFILE", "STATE", "PID", "UPTIME", "RESTARTS", "MEMORY", "LAST EXIT", "DESIRED"]);
    for report in &reports {
        table.row(cells(report));
    }
    if let Some(screen) = Screen::of_stdout() {
        table.fit(screen.columns(), STATE, STATE_AT_LEAST);
    }
    let lines = table.lines();
    let (shown, omitted) = screen.map_or((&*lines, 0), |screen| screen.fit(&lines, ROWS_KEPT, Text::width));
    out::lines(shown)?;
    if omitted > 0 {
        out::line(format_args!("… and {omitted} more; `gatevisor status` shows all"))?;
    }
    if unknown {
        out::warn("some gateways may not be looked at; ask as their owner or as root");
    }
    Ok(unknown)
}

fn cells(report: &ServiceReport) -> [Text; 8] {
    let name = report.profile.as_ref().map_or_else(|| report.service.clone(), ToString::to_string);
    let none = || "-".to_owned();
    [
        name.into(),
        state_cell(report),
        report.pid.map_or_else(none, |pid| pid.to_string()).into(),
        if report.up { span(report.updownfor) } else { none() }.into(),
        report.restarts.map_or_else(none, |count| count.to_string()).into(),
        report.memory_bytes.map_or_else(none, size).into(),
        report.deaths.first().map_or_else(none, short_exit).into(),
        report.desired_state.clone().unwrap_or_else(none).into(),
    ]
}

/// Returns the state with what belongs to it: the time left, or the reason.
fn state_words(report: &ServiceReport) -> String {
    let word = report.state.words();
    let left = report.next_start_in_ms.map(milliseconds);
    match (report.state, left, &report.reason) {
        (ServiceState::BackingOff, Some(left), Some(reason)) if report.port_held.is_some() => {
            format!("{word}, {left}: {reason}")
        }
        (ServiceState::BackingOff, Some(left), _) => format!("{word}, {left}"),
        (ServiceState::FailedToStart, Some(left), Some(reason)) => {
            format!("{word}, again in {left}: {reason}")
        }
        (
            ServiceState::Failed
            | ServiceState::FailedToStart
            | ServiceState::Waiting
            | ServiceState::Starting,
            _,
            Some(reason),
        ) => {
            format!("{word}: {reason}")
        }
        (ServiceState::BackingOff, None, Some(reason)) if report.port_held.is_some() => {
            format!("{word}: {reason}")
        }
        (ServiceState::Served, _, Some(by)) => format!("{word} {by}"),
        (ServiceState::Unresponsive | ServiceState::Degraded | ServiceState::Draining, _, Some(reason)) => {
            format!("{word}{}: {reason}", liveness_words::since(report))
        }
        _ => word.to_owned(),
    }
}

/// Returns the state for a table, which has no line for what is wrong with the log.
fn state_cell(report: &ServiceReport) -> Text {
    let mut words = Text::default().styled(colour(state_colour(report.state)), state_words(report));
    if let (Some(problem), Some(since)) = (&report.log_problem, &report.log_problem_since) {
        let problem = format!("not logged since {since}: {problem}");
        words = words.and("; ").styled(colour(AnsiColor::Red), problem);
    }
    if let Some(why) = liveness_words::unknown(report) {
        let text = format!("not known whether it works: {why}");
        words = words.and("; ").styled(colour(AnsiColor::Yellow), text);
    }
    if report.older_than_definition {
        words = words.and(" (").styled(colour(AnsiColor::Yellow), "older than the definition").and(")");
    }
    words
}

fn state_colour(state: ServiceState) -> AnsiColor {
    match state {
        ServiceState::Up | ServiceState::Ready | ServiceState::Served => AnsiColor::Green,
        ServiceState::Starting
        | ServiceState::Stopping
        | ServiceState::Finishing
        | ServiceState::Paused
        | ServiceState::Waiting
        | ServiceState::Degraded
        | ServiceState::Draining
        | ServiceState::Traced => AnsiColor::Yellow,
        ServiceState::BackingOff
        | ServiceState::Failed
        | ServiceState::FailedToStart
        | ServiceState::Unresponsive => AnsiColor::Red,
        ServiceState::Down | ServiceState::NotSupervised | ServiceState::Unknown => AnsiColor::BrightBlack,
    }
}

fn short_exit(death: &DeathReport) -> String {
    // The rest of that text is for where there is room.
    let cause = death.meaning.as_deref().filter(|_| death.signal.is_some());
    let cause = cause.and_then(|cause| cause.split_once(": ")).map(|(cause, _)| cause.to_owned());
    cause.unwrap_or_else(|| death.how("", ""))
}

fn long_exit(death: &DeathReport) -> String {
    let meaning = death.meaning.as_ref().map_or_else(String::new, |meaning| format!(": {meaning}"));
    format!("{} {}{meaning}", death.at, death.how("", ""))
}

/// Returns the report of one gateway.
pub fn row(context: &CommandContext, name: &ProfileName) -> Result<ServiceReport, CommandError> {
    inspect::inspect(&context.manager, name).map_err(CommandError::from)
}

/// Prints everything about each gateway.
pub fn details(context: &CommandContext, names: &[ProfileName]) -> Outcome {
    let mut first = true;
    let mut unknown = false;
    for name in names {
        let report = row(context, name)?;
        unknown |= report.state == ServiceState::Unknown;
        if context.json {
            out::json(&report)?;
            continue;
        }
        if !std::mem::take(&mut first) {
            out::empty_line()?;
        }
        out::line(Text::default().styled(BOLD, name))?;
        print_details(context, &report)?;
    }
    if unknown { Ok(Exit::System.code()) } else { DONE }
}

/// Prints everything that a report says.
pub fn print_details(context: &CommandContext, report: &ServiceReport) -> Result<(), CommandError> {
    let red = |text: String| Text::default().styled(colour(AnsiColor::Red), text);
    let mut state = Text::default().styled(colour(state_colour(report.state)), state_words(report));
    if let Some(pid) = report.pid {
        state = state.and(format_args!(" (pid {pid}) for {}", span(report.updownfor)));
    } else if report.state != ServiceState::NotSupervised && !report.deaths.is_empty() {
        state = state.and(format_args!(" for {}", span(report.updownfor)));
    }
    item("state", state)?;
    if let Some(left) = report.next_start_in_ms {
        item("waiting", format!("for its next start, in {}", milliseconds(left)))?;
    }
    if let Some(count) = report.restarts {
        let commanded = report.commanded_restarts.filter(|count| *count > 0);
        let apart =
            commanded.map_or_else(String::new, |count| format!(", and {count} that somebody asked for"));
        item("restarts", format!("{count}{apart}"))?;
    }
    if let Some(bytes) = report.memory_bytes {
        let cpu =
            report.cpu_ms.map_or_else(String::new, |ms| format!(", {} of processor time", milliseconds(ms)));
        item("memory", format!("{} in {}{cpu}", size(bytes), processes(report.processes.unwrap_or(1))))?;
    }
    if let Some(live) = &report.live {
        item("live", liveness_words::words(live))?;
    }
    if let Some(ended) = liveness_words::ended(report) {
        item("ended", ended)?;
    }
    item("desired", desired(report))?;
    if let Some(problem) = &report.log_problem {
        let since = report.log_problem_since.as_deref().unwrap_or("an unknown time");
        item("log", red(format!("since {since}: {problem}")))?;
    }
    if let Some(problem) = &report.problem {
        item("problem", red(problem.clone()))?;
    }
    let mut slot = context.manager.scandir().join(&report.service).display().to_string();
    if let Some(supervisor) = &report.supervisor {
        let _ = write!(slot, ", under {supervisor}");
    }
    item("slot", slot)?;
    if report.older_than_definition {
        let text = "older than the definition, or edited; `gatevisor reload` renders it anew";
        item("", Text::default().styled(colour(AnsiColor::Yellow), text))?;
    }
    for (index, death) in report.deaths.iter().enumerate() {
        item(if index == 0 { "deaths" } else { "" }, long_exit(death))?;
    }
    for (index, line) in last_lines(context, report).iter().enumerate() {
        item(if index == 0 { "printed" } else { "" }, line.as_str())?;
    }
    if let Some(name) = report.profile.as_ref().filter(|_| report.fails()) {
        item("", format!("`gatevisor explain {name}` says what led there"))?;
    }
    Ok(())
}

fn processes(count: u32) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// Prints one thing that is known of a gateway.
fn item(name: &str, text: impl Into<Text>) -> Result<(), CommandError> {
    out::line(Text::default().styled(DIM, format_args!("{name:8}")).and(" ").then(text.into()))
}

/// Returns what a gateway printed last that is not as it should be.
fn last_lines(context: &CommandContext, report: &ServiceReport) -> Vec<String> {
    match &report.profile {
        Some(name)
            if matches!(
                report.state,
                ServiceState::Failed | ServiceState::FailedToStart | ServiceState::BackingOff
            ) =>
        {
            crate::last_lines::since(context, name, report.last_began())
        }
        _ => Vec::new(),
    }
}

fn desired(report: &ServiceReport) -> String {
    match &report.desired_state {
        Some(state) => format!("{state}{}", report.said()),
        None => "nothing was ever recorded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_the_kernel_killed_for_memory_is_out_of_memory_in_the_table_and_another_kill_is_a_signal()
     {
        let death = |meaning: Option<&str>| DeathReport {
            at: "2026-11-28T00:00:00.000Z".to_owned(),
            exitcode: None,
            signal: Some("SIGKILL".to_owned()),
            meaning: meaning.map(str::to_owned),
        };
        assert_eq!(short_exit(&death(Some("out of memory: the kernel killed it"))), "out of memory");
        assert_eq!(short_exit(&death(None)), "SIGKILL");
        let exited = DeathReport { exitcode: Some(78), signal: None, ..death(Some("a: b")) };
        assert_eq!(short_exit(&exited), "exit 78");
    }
}
