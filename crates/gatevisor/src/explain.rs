//! `gatevisor explain`: why a gateway is in its state, on one page.
//!
//! *Lives here:* the page, and proposals for a mistyped name.
//! *Does not live here:* the causes (`gatevisor_doctor::explain`).

use anstyle::AnsiColor;
use gatevisor_doctor::explain::{CauseKind, Explanation, explain};
use gatevisor_gateways::inspect::{InspectError, ServiceState};
use gatevisor_gateways::misspelling::is_near;
use gatevisor_gateways::profile::{self, ProfileName};

use crate::args::{Choice, Common};
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::doctor;
use crate::each;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::last_lines;
use crate::out::{self, BOLD, DIM, Text, colour};
use crate::units::span;

/// The width of the column with the names of the parts.
const NAMES: usize = 8;

/// Explains one gateway, or several one after the other. The exit code is 111 if the caller may not
/// look.
pub fn run(context: &CommandContext, common: &Common, choice: &Choice) -> Outcome {
    let names = chosen(context, choice, NameScope::Known, Unnamed::Selected)?;
    let mut is_first = true;
    each::shown(&names, |name| {
        if !std::mem::take(&mut is_first) && !context.json {
            out::empty_line()?;
        }
        explain_one(context, common, name)
    })
}

/// Returns the reason for a gateway's state in one sentence, if it is known, and its last output.
pub fn in_short(
    context: &CommandContext,
    common: &Common,
    name: &ProfileName,
) -> Option<(Text, Vec<String>)> {
    let settings = doctor::settings(context, common).ok()?;
    // The last lines decide between causes, so the sentence takes them into account as the page
    // does.
    let lines = |run| last_lines::of_run(context, name, Some(run));
    let explanation = explain(&settings, name, &lines).ok()?;
    Some((headline_of(&explanation)?, last_lines::of_run(context, name, explanation.lines)))
}

fn explain_one(context: &CommandContext, common: &Common, name: &ProfileName) -> Outcome {
    let settings = doctor::settings(context, common)?;
    let lines = |run| last_lines::of_run(context, name, Some(run));
    let explanation = explain(&settings, name, &lines).map_err(|error| unexplained(context, name, error))?;
    if context.json {
        out::json(&explanation)?;
    } else {
        page(&explanation).iter().try_for_each(|line| out::line(line.clone()))?;
    }
    let is_unseen = explanation.first().is_some_and(|cause| cause.cause == CauseKind::NotAllowedToLook);
    if is_unseen { Ok(Exit::System.code()) } else { DONE }
}

/// Returns the error for an unknown gateway, with the names that were probably meant.
fn unexplained(context: &CommandContext, name: &ProfileName, error: InspectError) -> CommandError {
    let mut failure = CommandError::from(error);
    let manager = &context.manager;
    if failure.code == Exit::No.code()
        && let Ok(known) = profile::list(manager.home(), manager.agent())
    {
        let meant = known.iter().map(|profile| profile.name.as_str());
        let meant: Vec<String> =
            meant.filter(|known| is_near(name.as_str(), known)).map(|known| format!("`{known}`")).collect();
        if !meant.is_empty() {
            failure.message = format!("{}; did you mean {}?", failure.message, meant.join(" or "));
        }
    }
    failure
}

/// Returns the page, line by line.
fn page(explanation: &Explanation) -> Vec<Text> {
    let mut page = Vec::new();
    page.extend(headline_of(explanation));
    page.push(Text::default());
    part(&mut page, "desired", [desired(explanation)]);
    part(&mut page, "is", [is(explanation)]);
    part(
        &mut page,
        "because",
        explanation
            .causes
            .iter()
            .map(|cause| format!("{} ({}): {}", cause.what, cause.cause.word(), cause.evidence)),
    );
    part(&mut page, "printed", explanation.last_lines.iter().cloned());
    part(&mut page, "history", explanation.events.iter().map(|event| format!("{} {}", event.at, event.what)));
    part(
        &mut page,
        "also",
        explanation
            .findings
            .iter()
            .map(|finding| format!("{}: {}: {}", finding.severity.word(), finding.what, finding.why)),
    );
    part(&mut page, "unknown", explanation.unknown.iter().cloned());
    part(&mut page, "do", explanation.commands.iter().cloned());
    page
}

/// Returns the first line of the page.
fn headline_of(explanation: &Explanation) -> Option<Text> {
    let first = explanation.first()?;
    let is_well = first.cause == CauseKind::Well;
    let paint = colour(if is_well { AnsiColor::Green } else { AnsiColor::Red });
    let name = Text::default().styled(BOLD, &explanation.profile).and(": ");
    Some(name.styled(paint, headline(explanation, &first.what)))
}

/// Returns the first cause. If the gateway works again, the line says that the cause is in the
/// past.
fn headline(explanation: &Explanation, what: &str) -> String {
    let is_past = explanation.first().is_some_and(|cause| cause.cause.is_of_the_past());
    match explanation.state {
        ServiceState::Up | ServiceState::Ready if is_past => {
            format!("it is {} again; {what}", explanation.state.words())
        }
        _ => what.to_owned(),
    }
}

/// Adds a part of the page: its name, and its lines.
fn part(page: &mut Vec<Text>, name: &str, lines: impl IntoIterator<Item = String>) {
    let mut name = name;
    for line in lines {
        page.push(Text::default().styled(DIM, format_args!("{name:NAMES$}")).and(" ").and(line));
        name = "";
    }
}

fn desired(explanation: &Explanation) -> String {
    match &explanation.desired_state {
        Some(state) => format!("{state}{}", explanation.origin),
        None if explanation.desired_problem.is_some() => "unknown".to_owned(),
        None => "nothing was ever recorded".to_owned(),
    }
}

fn is(explanation: &Explanation) -> String {
    let mut text = explanation.state.words().to_owned();
    if let Some(pid) = explanation.pid {
        text = format!("{text}, process {pid}");
    }
    let is_supervised = explanation.state != ServiceState::NotSupervised;
    let was_ever = |seconds: &u64| explanation.pid.is_some() || *seconds > 0;
    if let Some(seconds) = explanation.updownfor.filter(was_ever).filter(|_| is_supervised) {
        text = format!("{text}, for {}", span(seconds));
    }
    text
}
