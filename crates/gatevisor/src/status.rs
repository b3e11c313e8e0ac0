//! `gatevisor status` and `gatevisor gateway status`: one table, or everything about one gateway.

use std::fmt::Write as _;

use anstyle::AnsiColor;
use gatevisor_client::OURS;
use gatevisor_gateways::inspect::{self, DeathReport, ServiceReport, ServiceState};
use gatevisor_gateways::profile::ProfileName;

use crate::args::{Choice, Common, StatusOptions};
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::each;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out::{self, BOLD, DIM, Text, TextTable, colour};
use crate::screen::Screen;
use crate::units::{milliseconds, size, span};
use crate::{explain, home_claim, liveness_words, summary};

/// The columns of the table.
const HEAD: [&str; 9] =
    ["PROFILE", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "LAST EXIT", "DESIRED"];

/// The columns that a narrow screen leaves out, in this order.
const DISPENSABLE: [usize; 7] = [2, 7, 5, 8, 4, 6, 3];

/// The columns that are shortened if that is not enough, with their smallest widths.
const SHORTENED: [(usize, usize); 2] = [(0, 12), (1, 12)];

/// Prints the table, and for a single named gateway more than its row.
pub fn run(context: &CommandContext, common: &Common, options: &StatusOptions) -> Outcome {
    let only = only(context, &options.choice)?;
    say_program(context);
    let code = show(context, &only, options.wide)?;
    if let ([name], false) = (only.as_slice(), context.json) {
        say_more(context, common, name)?;
    }
    Ok(code)
}

/// Returns the gateways of a table; none means all.
pub fn only(context: &CommandContext, choice: &Choice) -> Result<Vec<ProfileName>, CommandError> {
    let is_of_all = choice.is_empty() || choice.all;
    if is_of_all { Ok(Vec::new()) } else { chosen(context, choice, NameScope::Known, Unnamed::Selected) }
}

/// Reports which program supervises, unless it is ours.
pub fn say_program(context: &CommandContext) {
    if !context.json
        && let Some(program) = context.manager.supervisor_program().filter(|program| program != OURS)
    {
        let scandir = context.manager.scandir().display();
        out::say(format_args!("{program} supervises `{scandir}`"));
    }
}

/// Prints the table of everything.
pub fn table(context: &CommandContext) -> Result<(), CommandError> {
    show(context, &[], false).map(drop)
}

/// Returns the reports of these gateways, or of all, and the worst exit code. If one has no report,
/// the others are still shown.
pub fn reports(
    context: &CommandContext,
    only: &[ProfileName],
) -> Result<(Vec<ServiceReport>, u8), CommandError> {
    if only.is_empty() {
        return Ok((inspect::survey(&context.manager)?, Exit::Done.code()));
    }
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for report in inspect::inspect_each(&context.manager, only) {
        match report.map_err(CommandError::from) {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure),
        }
    }
    if reports.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    let code = failures.iter().map(out::fail).max().unwrap_or(Exit::Done.code());
    Ok((reports, code))
}

/// Prints the table, and returns the exit code: 111 if the state of a gateway is unknown.
fn show(context: &CommandContext, only: &[ProfileName], is_wide: bool) -> Outcome {
    let (reports, code) = reports(context, only)?;
    let is_supervised = context.supervisor_running()?;
    let is_unknown =
        |report: &ServiceReport| report.profile.is_some() && report.state == ServiceState::Unknown;
    let unknown = reports.iter().any(is_unknown);
    let code = if unknown { code.max(Exit::System.code()) } else { code };
    if context.json {
        return out::objects(&reports).map(|()| code);
    }
    say_standing(context, is_supervised);
    let table = StatusTable::new(reports, is_wide, Screen::of_stdout());
    let mut lines = vec![table.head];
    lines.extend(table.blocks.into_iter().flatten());
    lines.extend(table.summary.map(Text::from));
    out::lines(&lines)?;
    Ok(code)
}

/// Reports what concerns all gateways of the table.
pub fn say_standing(context: &CommandContext, is_supervised: bool) {
    if !is_supervised {
        let scandir = context.manager.scandir().display();
        let what_to_do = home_claim::what_to_do(context);
        out::say(format_args!("no supervisor is running on `{scandir}`; {what_to_do}"));
    }
    let standing = context.manager.standing();
    if !standing.allows() {
        out::warn(&standing.to_string());
    }
}

/// Prints the reason for a gateway's state in one sentence, and its last output.
fn say_more(context: &CommandContext, common: &Common, name: &ProfileName) -> Result<(), CommandError> {
    let Some((sentence, lines)) = explain::in_short(context, common, name) else { return Ok(()) };
    out::empty_line()?;
    out::line(sentence)?;
    for (index, line) in lines.iter().enumerate() {
        item(if index == 0 { "printed" } else { "" }, line.as_str())?;
    }
    Ok(())
}

/// The table of gateways as lines: the worst first, and no wider than the screen.
pub struct StatusTable {
    /// The line above all others.
    pub head: Text,
    /// The lines of each gateway: its row, and the reason for its state.
    pub blocks: Vec<Vec<Text>>,
    /// How many gateways are in each state, if there are several.
    pub summary: Option<String>,
}

impl StatusTable {
    /// Returns the table of these reports. A pipe gets one whole row for each gateway, as with
    /// `is_wide`; on a screen, the reasons are on separate lines.
    pub fn new(mut reports: Vec<ServiceReport>, is_wide: bool, screen: Option<Screen>) -> Self {
        let summary = summary::of(&reports).filter(|_| reports.len() > 1);
        reports.sort_by_key(|report| (report.profile.is_none(), summary::rank(report.state)));
        let screen = screen.filter(|_| !is_wide);
        let mut table = TextTable::new(HEAD);
        for report in &reports {
            table.row(cells(report, screen.is_none()));
        }
        if let Some(screen) = screen {
            table.fit(screen.columns(), &DISPENSABLE, &SHORTENED);
        }
        let mut lines = table.lines().into_iter();
        let head = lines.next().unwrap_or_default();
        let block = |(row, report)| {
            let note = screen.and_then(|screen| Some(note_line(report)?.shortened(screen.columns())));
            [Some(row), note].into_iter().flatten().collect()
        };
        Self { head, blocks: lines.zip(&reports).map(block).collect(), summary }
    }
}

fn cells(report: &ServiceReport, is_wide: bool) -> [Text; 9] {
    let none = || "-".to_owned();
    let state = Text::default().styled(colour(state_colour(report.state)), short_state(report));
    [
        report.name().into(),
        if is_wide { state_cell(report) } else { state },
        report.pid.map_or_else(none, |pid| pid.to_string()).into(),
        report.updownfor.filter(|_| report.is_up()).map_or_else(none, span).into(),
        report.restarts.map_or_else(none, |count| count.to_string()).into(),
        cpu_share(report).unwrap_or_else(none).into(),
        report.memory_bytes.map_or_else(none, size).into(),
        report.deaths().first().map_or_else(none, short_exit).into(),
        short_desired(report).into(),
    ]
}

/// Returns the share of one processor that a gateway's processes have used since it came up.
fn cpu_share(report: &ServiceReport) -> Option<String> {
    let ms = report.cpu_ms.filter(|_| report.is_up())?;
    // Tenths of a percent: milliseconds in each second.
    let tenths = ms.checked_div(report.updownfor?.max(1))?;
    Some(format!("{}.{}%", tenths / 10, tenths % 10))
}

/// Returns the line below a gateway's row with its problem, if there is one.
pub fn note_line(report: &ServiceReport) -> Option<Text> {
    let mut notes = notes(report);
    if let Some(reason) = shown_reason(report) {
        notes.insert(0, Text::from(reason));
    }
    notes.extend(older(report));
    let mut notes = notes.into_iter();
    let first = Text::from("  ").then(notes.next()?);
    Some(notes.fold(first, |line, note| line.and("; ").then(note)))
}

/// Returns the state with the time that belongs to it.
pub fn short_state(report: &ServiceReport) -> String {
    let word = report.state.words();
    let left = report.next_start_in_ms.map(milliseconds);
    match (report.state, left, &report.reason) {
        (ServiceState::BackingOff, Some(left), _) => format!("{word}, {left}"),
        (ServiceState::FailedToStart, Some(left), _) => format!("{word}, again in {left}"),
        (ServiceState::Draining, ..) if report.drain.is_some() => liveness_words::draining(report),
        (ServiceState::Served, _, Some(by)) => format!("{word} {by}"),
        (ServiceState::Unresponsive | ServiceState::Degraded | ServiceState::Draining, ..) => {
            format!("{word}{}", liveness_words::since(report))
        }
        _ => word.to_owned(),
    }
}

/// Returns the reason for its state, if it is worth showing in the table. For most states it is.
fn shown_reason(report: &ServiceReport) -> Option<&str> {
    let goes_without_saying = match report.state {
        // How it ended is shown in a separate column.
        ServiceState::BackingOff => report.port_held.is_none(),
        ServiceState::Up
        | ServiceState::Ready
        | ServiceState::Stopping
        | ServiceState::Finishing
        | ServiceState::NotSupervised
        | ServiceState::Paused
        | ServiceState::Traced
        | ServiceState::Unknown
        | ServiceState::Served => true,
        _ => false,
    };
    report.reason.as_deref().filter(|_| !goes_without_saying)
}

/// Returns the state with further facts: the time left, and the reason.
fn state_words(report: &ServiceReport) -> String {
    let reason = shown_reason(report).map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{}{reason}", short_state(report))
}

/// Returns the state for a table without lines for other problems.
fn state_cell(report: &ServiceReport) -> Text {
    let words = Text::default().styled(colour(state_colour(report.state)), state_words(report));
    let words = notes(report).into_iter().fold(words, |words, note| words.and("; ").then(note));
    match older(report) {
        Some(note) => words.and(" (").then(note).and(")"),
        None => words,
    }
}

/// Returns that a gateway's service directory differs from the definition, if it does.
fn older(report: &ServiceReport) -> Option<Text> {
    let text = || Text::default().styled(colour(AnsiColor::Yellow), "older than the definition");
    report.older_than_definition.unwrap_or(false).then(text)
}

/// Returns that a process of a gateway runs without a supervisor, if one does.
fn orphan(report: &ServiceReport) -> Option<Text> {
    let words = format!("process {} still runs, left by a supervisor that was killed", report.orphan_pid?);
    Some(Text::default().styled(colour(AnsiColor::Red), words))
}

/// Returns the problems of a gateway besides its state.
fn notes(report: &ServiceReport) -> Vec<Text> {
    let mut notes = Vec::new();
    notes.extend(orphan(report));
    let mut note = |paint, text: String| notes.push(Text::default().styled(colour(paint), text));
    if let (Some(problem), Some(since)) = (&report.log_problem, &report.log_problem_since) {
        note(AnsiColor::Red, format!("not logged since {since}: {problem}"));
    }
    if let Some(ticket) = report.asked_restart.as_ref().filter(|ticket| ticket.is_pending()) {
        note(AnsiColor::Yellow, ticket.words());
    }
    let is_the_reason = |held: &str| shown_reason(report).is_some_and(|reason| reason.contains(held));
    if let Some(held) = report.port_held.as_ref().filter(|held| report.is_up() && !is_the_reason(held)) {
        note(AnsiColor::Red, held.clone());
    }
    if let Some(declared) = report.declared.as_ref().filter(|declared| declared.drifts) {
        let (desired, fate) = (declared.desired, declared.fate());
        note(
            AnsiColor::Yellow,
            format!("declared {desired} by {}; the difference is {fate}", declared.who()),
        );
    }
    if let Some(why) = liveness_words::unknown(report) {
        note(AnsiColor::Yellow, format!("not known whether it works: {why}"));
    }
    notes
}

/// Returns the colour of a state: green, yellow or red, and grey for what is not running.
pub const fn state_colour(state: ServiceState) -> AnsiColor {
    match state {
        ServiceState::Up | ServiceState::Ready | ServiceState::Served => AnsiColor::Green,
        ServiceState::Starting
        | ServiceState::Stopping
        | ServiceState::Finishing
        | ServiceState::Paused
        | ServiceState::Waiting
        | ServiceState::Asking
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
    // The rest of that text is shown where there is room.
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
    let mut is_first = true;
    each::shown(names, |name| {
        let report = row(context, name)?;
        if context.json {
            out::json(&report)?;
        } else {
            if !std::mem::take(&mut is_first) {
                out::empty_line()?;
            }
            out::line(Text::default().styled(BOLD, name))?;
            print_details(context, &report)?;
        }
        if report.state == ServiceState::Unknown { Ok(Exit::System.code()) } else { DONE }
    })
}

/// Prints everything in a report.
pub fn print_details(context: &CommandContext, report: &ServiceReport) -> Result<(), CommandError> {
    let red = |text: String| Text::default().styled(colour(AnsiColor::Red), text);
    item("state", state_line(report))?;
    if let Some(orphan) = orphan(report) {
        item("orphan", orphan.and("; `gatevisor up` ends it"))?;
    }
    if let Some(left) = report.next_start_in_ms {
        item("waiting", format!("for its next start, in {}", milliseconds(left)))?;
    }
    if let Some(count) = report.restarts {
        let commanded = report.commanded_restarts.filter(|count| *count > 0);
        let commanded_part = commanded.map_or_else(String::new, |count| {
            format!(", and {count} that a command or the watcher asked for")
        });
        item("restarts", format!("{count}{commanded_part}"))?;
    }
    if let Some(bytes) = report.memory_bytes {
        let cpu =
            report.cpu_ms.map_or_else(String::new, |ms| format!(", {} of processor time", milliseconds(ms)));
        item("memory", format!("{} in {}{cpu}", size(bytes), processes(report.processes.unwrap_or(1))))?;
    }
    for (index, platform) in report.served.iter().flat_map(|served| &served.platforms).enumerate() {
        let error = platform.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let text = format!("{} {}{error}", platform.name, platform.state);
        item(if index == 0 { "serves" } else { "" }, text)?;
    }
    for (name, words) in liveness_words::details(report) {
        item(name, words)?;
    }
    item("desired", desired(report))?;
    if let Some(declared) = &report.declared {
        item("declared", format!("{} by {}; drift: {}", declared.desired, declared.who(), declared.drift))?;
        if let Some(problem) = &declared.problem {
            item("", red(problem.clone()))?;
        }
    }
    if let Some(problem) = &report.log_problem {
        let since = report.log_problem_since.as_deref().unwrap_or("an unknown time");
        item("log", red(format!("since {since}: {problem}")))?;
    }
    for problem in [&report.problem, &report.topology_problem].into_iter().flatten() {
        item("problem", red(problem.clone()))?;
    }
    let mut slot = context.manager.scandir().join(&report.service).display().to_string();
    if let Some(supervisor) = &report.supervisor {
        let _ = write!(slot, ", under {supervisor}");
    }
    item("slot", slot)?;
    if report.older_than_definition == Some(true) {
        let text = "it or its process is older than the definition; `gatevisor reload --restart` renews both";
        item("", Text::default().styled(colour(AnsiColor::Yellow), text))?;
    }
    for (index, death) in report.deaths().iter().enumerate() {
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

/// Returns the state with the process, and for how long it has been so.
fn state_line(report: &ServiceReport) -> Text {
    let mut state = Text::default().styled(colour(state_colour(report.state)), state_words(report));
    if let Some(pid) = report.pid {
        state = state.and(format_args!(" (pid {pid})"));
    }
    let was_ever = report.pid.is_some() || !report.deaths().is_empty();
    match report.updownfor.filter(|_| was_ever && report.state != ServiceState::NotSupervised) {
        Some(seconds) => state.and(format_args!(" for {}", span(seconds))),
        None => state,
    }
}

fn processes(count: u32) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// Prints one fact about a gateway.
fn item(name: &str, text: impl Into<Text>) -> Result<(), CommandError> {
    out::line(Text::default().styled(DIM, format_args!("{name:8}")).and(" ").then(text.into()))
}

/// Returns the last output of a gateway with a problem.
fn last_lines(context: &CommandContext, report: &ServiceReport) -> Vec<String> {
    let is_failing = report.fails() || report.ended_by_itself_ms.is_some();
    match &report.profile {
        Some(name) if is_failing => crate::last_lines::of_run(context, name, report.lines.latest()),
        _ => Vec::new(),
    }
}

fn desired(report: &ServiceReport) -> String {
    match &report.desired_state {
        Some(state) => format!("{state}{}", report.origin),
        None if report.desired_problem.is_some() => "unknown".to_owned(),
        None => "nothing was ever recorded".to_owned(),
    }
}

/// Returns the desired state for the table.
pub fn short_desired(report: &ServiceReport) -> String {
    let none = if report.desired_problem.is_some() { "unknown" } else { "-" };
    report.desired_state.clone().unwrap_or_else(|| none.to_owned())
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
