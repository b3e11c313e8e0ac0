//! `gatevisor explain`: why a gateway is as it is, on one page.
//!
//! *Lives here:* the page, and what was probably meant by a name that is none. *Does not live here:* the causes
//! (`gatevisor_doctor::explain`).

use std::ffi::OsStr;

use anstyle::AnsiColor;
use gatevisor_doctor::explain::{CauseKind, Explanation, explain};
use gatevisor_gateways::inspect::{InspectError, ServiceState};
use gatevisor_gateways::profile::{self, ProfileName};

use crate::args::Common;
use crate::context::CommandContext;
use crate::doctor;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out::{self, BOLD, DIM, Text, colour};
use crate::units::span;
use crate::{last_lines, near};

/// Columns of the names of the parts.
const NAMES: usize = 8;

/// Explains one gateway; the exit code is 111 where nobody may look.
pub fn run(context: &CommandContext, common: &Common, name: Option<&OsStr>) -> Outcome {
    let name = context.named(name)?;
    let settings = doctor::settings(context, common)?;
    let lines = |since, until| last_lines::between(context, &name, since, until);
    let explanation =
        explain(&settings, &name, &lines).map_err(|error| unexplained(context, &name, error))?;
    if context.json {
        out::json(&explanation)?;
    } else {
        page(&explanation).iter().try_for_each(|line| out::line(line.clone()))?;
    }
    let is_unseen = explanation.first().is_some_and(|cause| cause.cause == CauseKind::NotAllowedToLook);
    if is_unseen { Ok(Exit::System.code()) } else { DONE }
}

/// Returns why there is nothing to explain, with the names that were probably meant.
fn unexplained(context: &CommandContext, name: &ProfileName, error: InspectError) -> CommandError {
    let mut failure = CommandError::from(error);
    let manager = &context.manager;
    if failure.code == Exit::No.code()
        && let Ok(known) = profile::list(manager.home(), manager.agent())
    {
        let meant = known.iter().map(|profile| profile.name.as_str());
        let meant: Vec<String> = meant
            .filter(|known| near::is_near(name.as_str(), known))
            .map(|known| format!("`{known}`"))
            .collect();
        if !meant.is_empty() {
            failure.message = format!("{}; did you mean {}?", failure.message, meant.join(" or "));
        }
    }
    failure
}

/// Returns the page, line by line.
fn page(explanation: &Explanation) -> Vec<Text> {
    let mut page = Vec::new();
    if let Some(first) = explanation.first() {
        let is_well = first.cause == CauseKind::Well;
        let paint = colour(if is_well { AnsiColor::Green } else { AnsiColor::Red });
        let name = Text::default().styled(BOLD, &explanation.profile).and(": ");
        page.push(name.styled(paint, headline(explanation, &first.what)));
    }
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

/// Returns the first cause, and of a gateway that works again that it is of the past.
fn headline(explanation: &Explanation, what: &str) -> String {
    let is_past = explanation.first().is_some_and(|cause| cause.cause.is_of_the_past());
    match explanation.state {
        ServiceState::Up | ServiceState::Ready if is_past => {
            format!("it is {} again; {what}", explanation.state.words())
        }
        _ => what.to_owned(),
    }
}

/// Adds a part of the page: its name, and a line for each thing that is said.
fn part(page: &mut Vec<Text>, name: &str, lines: impl IntoIterator<Item = String>) {
    let mut name = name;
    for line in lines {
        page.push(Text::default().styled(DIM, format_args!("{name:NAMES$}")).and(" ").and(line));
        name = "";
    }
}

fn desired(explanation: &Explanation) -> String {
    match &explanation.desired_state {
        Some(state) => format!("{state}{}", explanation.said()),
        None => "nothing was ever recorded".to_owned(),
    }
}

fn is(explanation: &Explanation) -> String {
    let mut text = explanation.state.words().to_owned();
    if let Some(pid) = explanation.pid {
        text = format!("{text}, process {pid}");
    }
    let was_ever = explanation.pid.is_some() || explanation.updownfor > 0;
    if was_ever && explanation.state != ServiceState::NotSupervised {
        text = format!("{text}, for {}", span(explanation.updownfor));
    }
    text
}
