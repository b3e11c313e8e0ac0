//! `gatevisor reload`: makes an edited agent definition take effect.
//!
//! *Lives here:* which service directories, and the report on each.
//! *Does not live here:* their contents (`gatevisor_gateways::slots`).

use gatevisor_gateways::drain::{DrainThen, HeldDrain};
use gatevisor_gateways::manager::{GatewayRequest, ServiceManager};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::slots::{self, SlotChanges};
use serde_json::json;

use crate::args;
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::each::{self, Told};
use crate::exit::{CommandError, Exit, Outcome};
use crate::{drain_wait, out, status};

/// Generates the service directories of these profiles, or of all, from the present definition.
pub fn run(context: &CommandContext, options: &args::Reload) -> Outcome {
    let choice = &options.choice;
    let names = if choice.is_of_everybody(context) {
        context.manager.list()?
    } else {
        chosen(context, choice, NameScope::Slots, Unnamed::Selected)?
    };
    let held = if options.restart { drained(context, &names)? } else { Vec::new() };
    let results = each::at_once(context, &names, |name| reload(context, options, name));
    out::warn_all(&held.into_iter().flat_map(HeldDrain::finish).collect::<Vec<_>>());
    each::tell(context, &names, results)
}

/// Drains the gateways that will be restarted.
fn drained(context: &CommandContext, names: &[ProfileName]) -> Result<Vec<HeldDrain>, CommandError> {
    let is_changed = |name: &&ProfileName| {
        let changes = changes(context, name).ok().flatten();
        changes.is_some_and(|changes| !changes.is_empty() || runs_older(context, name))
    };
    let names: Vec<ProfileName> = names.iter().filter(is_changed).cloned().collect();
    drain_wait::before(context, &names, "reload --restart", DrainThen::Restart)
}

fn reload(
    context: &CommandContext,
    options: &args::Reload,
    name: &ProfileName,
) -> Result<Told, CommandError> {
    let slot = context.manager.slot(name);
    let Some(changes) = changes(context, name)? else {
        // A missing profile or slot is reported as by every command.
        status::row(context, name)?;
        let path = slot.path().display();
        return Err(CommandError::new(
            Exit::No,
            format!("`{path}` is no service directory that gatevisor made"),
        ));
    };
    let status = slot.status().ok();
    let running = status.and_then(|status| status.pid);
    if changes.is_empty() && !slots::runs_older(slot.path(), running) {
        return Ok(told("as the definition has it already".to_owned(), false, Vec::new()));
    }
    slots::renew(slot.path(), &changes, running).map_err(|error| {
        let path = slot.path().display();
        CommandError::new(Exit::System, format!("cannot render the service directory `{path}` anew: {error}"))
    })?;
    let log =
        if changes.concern_log() { "; its log's settings count from the next `gatevisor up`" } else { "" };
    let is_up = status.is_some_and(|status| status.is_up());
    let shall_run = status::row(context, name)?.desired_state.as_deref() == Some("running");
    let (mut warnings, mut is_changed) = (Vec::new(), !changes.is_empty());
    let done = if changes.is_empty() { "as the definition has it already" } else { "rendered anew" };
    let words = match (is_up, options.restart) {
        (false, _) => done.to_owned(),
        (true, true) if !shall_run => {
            format!("{done}; it is not restarted, because nobody has asked for it to run")
        }
        (true, false) => format!("{done}; it takes effect with `gatevisor gateway restart {name}`"),
        (true, true) => {
            let request = GatewayRequest::here("reload --restart");
            warnings = context.manager.restart(name, &request)?.warnings;
            is_changed = true;
            format!("{done}, and restarted")
        }
    };
    Ok(told(words + log, is_changed, warnings))
}

/// Returns whether the process of a gateway is older than its present service directory.
fn runs_older(context: &CommandContext, name: &ProfileName) -> bool {
    let slot = context.manager.slot(name);
    slots::runs_older(slot.path(), slot.status().ok().and_then(|status| status.pid))
}

fn told(words: String, is_changed: bool, warnings: Vec<String>) -> Told {
    Told { fields: vec![("changed", json!(is_changed))], ..Told::new(words, warnings) }
}

/// Returns how a gateway's service directory differs from the definition; `None` if we have not
/// made one.
fn changes(context: &CommandContext, name: &ProfileName) -> Result<Option<SlotChanges>, CommandError> {
    let manager = &context.manager;
    slots::changes(manager.slot(name).path(), manager.agent(), name).map_err(CommandError::from)
}

/// Warns of gateways whose service directories are older than the definition, because they were
/// started from the old one.
pub fn warn_of_old<'a>(context: &CommandContext, names: impl Iterator<Item = &'a ProfileName>) {
    for name in names {
        if changes(context, name).is_ok_and(|changes| changes.is_some_and(|changes| !changes.is_empty())) {
            out::warn(&format!(
                "the service directory of {name} is older than the definition; `gatevisor reload --restart {name}` \
                 renders it anew"
            ));
        }
    }
}
