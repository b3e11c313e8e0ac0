//! `gatevisor alerts`, and the process that sends alerts.
//!
//! *Lives here:* the verbs. *Does not live here:* when alerts are sent, and their words
//! (`gatevisor_alerts`).

mod file;
mod findings;
mod sending;
mod watch;

use gatevisor_alerts::{AlertDestination, AlertKind, AlertMessage};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_sys::clock::monotonic_ms;
use serde_json::json;

use crate::args::AlertsCommand;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;

use file::{AlertFile, FILE, FileError};
use sending::Sending;
pub use watch::kept;

/// Runs a verb of `gatevisor alerts`.
pub fn run(context: &CommandContext, verb: &AlertsCommand) -> Outcome {
    match verb {
        AlertsCommand::Check => check(context),
        AlertsCommand::Test => send(context, &AlertMessage::test()),
        AlertsCommand::Send { text } => send(context, &AlertMessage::said(text.clone())),
    }
}

/// Returns the settings, or the error that says why no alert would be sent.
fn settings(context: &CommandContext) -> Result<AlertFile, CommandError> {
    let path = file::path(context.manager.home());
    match AlertFile::read(context.manager.home()) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(CommandError::new(
            Exit::No,
            format!(
                "nobody is told anything: `{}` does not exist, or has no [alerts]; docs/guides/alerts.md has examples",
                path.display()
            ),
        )),
        Err(FileError::Refused(why)) => {
            Err(CommandError::new(Exit::Usage, format!("`{}` does not count: {why}", path.display())))
        }
        Err(FileError::Invalid(problems)) => {
            for problem in &problems {
                if context.json {
                    let (line, what) = (problem.line, &problem.what);
                    out::json(&json!({ "valid": false, "line": line, "what": what }))?;
                } else {
                    out::line(format_args!("{}:{}: {}", path.display(), problem.line, problem.what))?;
                }
            }
            Err(CommandError::new(
                Exit::No,
                format!(
                    "`{FILE}` is not valid, so nobody is told anything; correct the lines that are named"
                ),
            ))
        }
    }
}

fn check(context: &CommandContext) -> Outcome {
    let file = settings(context)?;
    if file.others_may_read {
        let path = file::path(context.manager.home());
        out::warn(&format!(
            "others may read `{0}`, and an address is often a secret; chmod 600 '{0}'",
            path.display()
        ));
    }
    let mut is_usable = true;
    for destination in &file.settings.to {
        let why = unusable(&context.manager, destination);
        is_usable &= why.is_none();
        let kinds: Vec<&str> = destination.kinds.iter().map(|kind| AlertKind::word(*kind)).collect();
        if context.json {
            out::json(&json!({
                "valid": why.is_none(),
                "to": destination.label(),
                "on": kinds,
                "what": why,
            }))?;
        } else {
            let but = why.map_or_else(String::new, |why| format!("; but {why}"));
            out::line(format_args!("{}: {}{but}", destination.label(), kinds.join(", ")))?;
        }
    }
    Ok(if is_usable { Exit::Done.code() } else { Exit::No.code() })
}

/// Returns why no alert can reach a destination, as far as that can be found out without sending
/// one.
fn unusable(manager: &ScandirManager, destination: &AlertDestination) -> Option<String> {
    let request = sending::request(manager, destination, &AlertMessage::test(), "").err();
    request.or_else(|| {
        let needs_curl = destination.preset.has_url();
        (needs_curl && !sending::has_program("curl")).then(|| sending::NO_CURL.to_owned())
    })
}

/// Sends a message to every destination.
fn send(context: &CommandContext, message: &AlertMessage) -> Outcome {
    let file = settings(context)?;
    let name = file.name();
    let mut all_sent = true;
    for destination in &file.settings.to {
        let result = sending::request(&context.manager, destination, message, &name)
            .and_then(|request| Sending::begin(&request, context.manager.home().root(), monotonic_ms()))
            .and_then(Sending::wait);
        all_sent &= result.is_ok();
        let label = destination.label();
        if context.json {
            let why = result.as_ref().err();
            out::json(&json!({ "to": label, "sent": result.is_ok(), "reason": why }))?;
        } else {
            let said = result.map_or_else(|why| format!("not sent: {why}"), |()| "sent".to_owned());
            out::line(format_args!("{label}: {said}"))?;
        }
    }
    if all_sent { DONE } else { Ok(Exit::No.code()) }
}
