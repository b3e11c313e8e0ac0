//! `gatevisor reload`: an edited agent definition takes effect.
//!
//! *Lives here:* which service directories, and what is said of each. *Does not live here:* what is in them
//! (`gatevisor_gateways::slots`).

use gatevisor_gateways::manager::{GatewayRequest, ServiceManager};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::slots::{self, SlotChanges};
use serde_json::json;

use crate::args;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::{out, status};

/// What became of a service directory.
struct Reloaded {
    words: String,
    is_changed: bool,
}

/// Makes the service directories of these profiles, or of all, as the definition has them now.
pub fn run(context: &CommandContext, options: &args::Reload) -> Outcome {
    let names = if options.names.is_empty() {
        context.manager.list()?
    } else {
        options.names.iter().map(|name| context.named(Some(name))).collect::<Result<_, _>>()?
    };
    let mut outcome = DONE;
    for name in &names {
        match reload(context, options, name) {
            Ok(done) if context.json => out::json(
                &json!({ "profile": name.as_str(), "ok": true, "changed": done.is_changed, "result": done.words }),
            )?,
            Ok(done) => out::line(format_args!("{name}: {}", done.words))?,
            Err(failure) => {
                if context.json {
                    out::json(&json!({ "profile": name.as_str(), "ok": false, "error": failure.message }))?;
                }
                let code = out::fail(&failure);
                outcome = outcome.map(|before| if before == Exit::Done.code() { code } else { before });
            }
        }
    }
    outcome
}

fn reload(
    context: &CommandContext,
    options: &args::Reload,
    name: &ProfileName,
) -> Result<Reloaded, CommandError> {
    let slot = context.manager.slot(name);
    let Some(changes) = changes(context, name)? else {
        // That there is no such profile, or no slot of it, is told as by every command.
        status::row(context, name)?;
        let path = slot.path().display();
        return Err(CommandError::new(
            Exit::No,
            format!("`{path}` is no service directory that gatevisor made"),
        ));
    };
    if changes.is_empty() {
        return Ok(Reloaded { words: "as the definition has it already".to_owned(), is_changed: false });
    }
    slots::renew(slot.path(), &changes).map_err(|error| {
        let path = slot.path().display();
        CommandError::new(Exit::System, format!("cannot render the service directory `{path}` anew: {error}"))
    })?;
    let log =
        if changes.concern_log() { "; its log's settings count from the next `gatevisor up`" } else { "" };
    let is_up = slot.status().is_ok_and(|status| status.is_up());
    let words = match (is_up, options.restart) {
        (false, _) => "rendered anew".to_owned(),
        (true, false) => format!("rendered anew; it takes effect with `gatevisor gateway restart {name}`"),
        (true, true) => {
            let order = GatewayRequest::here("reload --restart");
            let done = context.manager.restart(name, &order);
            out::warn_all(&done?.warnings);
            "rendered anew, and restarted".to_owned()
        }
    };
    Ok(Reloaded { words: words + log, is_changed: true })
}

/// Returns how a gateway's service directory differs from the definition; `None` where there is none that we made.
fn changes(context: &CommandContext, name: &ProfileName) -> Result<Option<SlotChanges>, CommandError> {
    let manager = &context.manager;
    slots::changes(manager.slot(name).path(), manager.agent(), name).map_err(CommandError::from)
}

/// Warns of those whose service directories are older than the definition: they were started from the old one.
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
