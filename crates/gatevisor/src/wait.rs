//! `gatevisor wait`: until a gateway is as asked.

use std::time::Duration;

use gatevisor_gateways::manager::{Condition, ServiceManager, WaitError, WaitOutcome};

use crate::args;
use crate::context::Context;
use crate::exit::{DONE, Exit, Failure, Outcome};

/// Waits; the exit code is the answer.
pub fn run(context: &Context, options: &args::Wait) -> Outcome {
    let name = context.named(options.name.as_deref())?;
    let condition = if options.down {
        Condition::Down
    } else if options.ready {
        Condition::Ready
    } else {
        Condition::Up
    };
    let timeout = options.timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let outcome = match context.manager.wait(&name, condition, timeout) {
        Ok(outcome) => outcome,
        // Without a supervisor it matters little whether there is a slot.
        Err(WaitError::NotRegistered { .. }) if !context.supervisor_running()? => {
            return Err(Failure::new(
                Exit::NotSupervised,
                format!(
                    "no supervisor is running on `{}`; `gatevisor up` starts one",
                    context.manager.scandir().display()
                ),
            ));
        }
        Err(error) => {
            if matches!(error, WaitError::NotRegistered { .. }) {
                // To start a profile that does not exist would be bad advice.
                crate::status::row(context, &name)?;
            }
            return Err(Failure::of(error.exit_code(), &error));
        }
    };
    match outcome {
        WaitOutcome::Reached => DONE,
        WaitOutcome::Failed { reason: Some(reason) } => {
            Err(Failure::new(Exit::No, format!("the gateway of {name} does not come up: {reason}")))
        }
        WaitOutcome::Failed { reason: None } => Err(Failure::new(
            Exit::No,
            format!("the gateway of {name} failed; `gatevisor gateway status {name}` says why"),
        )),
        WaitOutcome::NeverReady => Err(Failure::new(
            Exit::No,
            format!(
                "the gateway of {name} is up, and nothing tells whether it is ready: nobody probes it; wait with --up, or \
                 give it a probe, `[gateway.ready]` in the agent definition"
            ),
        )),
        WaitOutcome::TimedOut => {
            Err(Failure::new(Exit::TimedOut, format!("the gateway of {name} did not get there in time")))
        }
    }
}
