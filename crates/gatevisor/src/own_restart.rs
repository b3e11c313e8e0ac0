//! `gatevisor gateway restart --self`: a gateway asks for its own restart.
//!
//! *Lives here:* asking, and the message about the answer. *Does not live here:* finding out which
//! gateway asks, and carrying it out (`gatevisor_gateways::ticket`).

use std::time::Duration;

use gatevisor_gateways::desired::Provenance;
use gatevisor_gateways::ticket::{self, AskedRestart, OwnRestart};
use serde_json::json;

use crate::args::RestartOptions;
use crate::context::CommandContext;
use crate::each::{self, Told};
use crate::exit::Outcome;

/// How long the turns that are under way may take by default.
const LIMIT: Duration = Duration::from_mins(5);

/// Asks for the restart of the gateway in which this command runs.
pub fn ask(context: &CommandContext, options: &RestartOptions) -> Outcome {
    let is_named = context.selected != *context.manager.home().selected();
    let wanted = OwnRestart {
        by: Provenance::here("gateway restart --self"),
        reason: options.drained.control.reason.clone(),
        after_turn: options.after_turn,
        limit: options.drained.drain.unwrap_or(LIMIT),
        meant: is_named.then(|| context.selected.clone()),
    };
    let asked = ticket::ask(&context.manager, &wanted)?;
    let drains = context.manager.agent().gateway.drain.is_some();
    let told = Told {
        fields: vec![
            ("asked_before", json!(asked.since)),
            ("waits_until", json!(asked.waits_until)),
            ("recent", json!(asked.recent)),
        ],
        ..Told::new(words(&asked, drains), Vec::new())
    };
    each::tell(context, std::slice::from_ref(&asked.name), [Ok(told)])
}

fn words(asked: &AskedRestart, drains: bool) -> String {
    if let Some(since) = &asked.since {
        return format!("this was asked for already, at {since}");
    }
    let when = if drains {
        "is restarted when no turn is under way, this one included".to_owned()
    } else {
        "is restarted now".to_owned()
    };
    match &asked.waits_until {
        Some(until) => format!(
            "{when}, and not before {until}: it was restarted {} times in the last hour because it had asked",
            asked.recent
        ),
        None => when,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_when_the_restart_comes_and_what_it_waits_for() {
        let asked = AskedRestart {
            name: "coder".parse().unwrap(),
            since: None,
            waits_until: Some("12:00".to_owned()),
            recent: 3,
        };
        let late = words(&asked, true);
        assert!(late.contains("this one included, and not before 12:00: it was restarted 3 times"), "{late}");
        let asked = AskedRestart { waits_until: None, ..asked };
        assert_eq!(words(&asked, true), "is restarted when no turn is under way, this one included");
        assert_eq!(words(&asked, false), "is restarted now");
        let asked = AskedRestart { since: Some("11:00".to_owned()), ..asked };
        assert_eq!(words(&asked, true), "this was asked for already, at 11:00");
    }
}
