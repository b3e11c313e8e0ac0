//! `gatevisor reconcile`: the slots as the profiles and their wishes say.

use gatevisor_gateways::reconcile::{Report, Settings, reconcile};
use jiff::Zoned;

use crate::context::{Context, variable};
use crate::exit::{DONE, Failure, Outcome};
use crate::out;

/// Reconciles, or says what that would do.
pub fn run(context: &Context, dry_run: bool) -> Outcome {
    let report = perform(context, dry_run)?;
    if context.json {
        for action in &report.actions {
            out::json(action)?;
        }
    } else {
        for line in report.lines() {
            out::line(format_args!("{line}"))?;
        }
    }
    DONE
}

/// Reconciles and returns what came of it.
pub fn perform(context: &Context, dry_run: bool) -> Result<Report, Failure> {
    let manager = &context.manager;
    let settings = Settings {
        agent: manager.agent(),
        home: manager.home(),
        scandir: manager.scandir(),
        interpreter: &context.program,
        container_argv: &[],
        variable: &variable,
        now: Zoned::now(),
    };
    reconcile(&settings, dry_run).map_err(|error| Failure::of(error.exit_code(), &error))
}
