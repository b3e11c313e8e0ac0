//! `gatevisor metrics`: the state of all gateways as metrics, once or over HTTP.
//!
//! *Lives here:* gathering. *Does not live here:* which metrics there are (`gatevisor_metrics`),
//! the token's file (`token_file`), and the server (`gatevisor_web`).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gatevisor_gateways::inspect::{self, ExitCounter, ExitCounts, ServiceReport};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::{drain, incidents, live};
use gatevisor_metrics::{HomeFacts, TextFormat, encode, registry};
use gatevisor_web::{Access, MetricsRequest, MetricsText, Responder, serve};
use gatevisor_wire::exit::error_chain;

use crate::args::MetricsOptions;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out::{self, Text};
use crate::token_file::{self, Readers};

/// Prints the metrics, or serves them until the process is ended.
pub fn run(context: &CommandContext, options: &MetricsOptions) -> Outcome {
    if context.json {
        return Err(CommandError::new(
            Exit::Usage,
            "metrics have a format of their own; `gatevisor --json status` prints the same facts as JSON",
        ));
    }
    if let Some(address) = options.listen {
        return listen(context, address, options.token_file.as_deref());
    }
    let format = if options.open_metrics { TextFormat::OpenMetrics } else { TextFormat::Prometheus };
    // A single look cannot count deaths.
    let text = text(&context.manager, format, &mut |_| ExitCounts::new())
        .map_err(|why| CommandError::new(Exit::System, why))?;
    let lines: Vec<Text> = text.lines().map(Text::from).collect();
    out::lines(&lines)?;
    DONE
}

fn listen(context: &CommandContext, address: SocketAddr, token_file: Option<&Path>) -> Outcome {
    let token = token_file.map(|path| token_file::read(path, Readers::Owner)).transpose();
    let token = token.map_err(|why| CommandError::new(Exit::Usage, why))?;
    let access = Access::new(address, token.as_deref())
        .map_err(|error| CommandError::new(Exit::Usage, error.to_string()))?;
    let manager = context.manager.with_agent(context.manager.agent().clone());
    let exits = Mutex::new(ExitCounter::default());
    let metrics: Responder = Arc::new(move |question: MetricsRequest| {
        let format = TextFormat::accepted(&question.accept);
        // It is held during the look, so that each look is later than the one before.
        let mut exits = Mutex::lock(&exits).unwrap_or_else(PoisonError::into_inner);
        let text = text(&manager, format, &mut |reports| exits.look(reports).clone())?;
        Ok(MetricsText { media_type: format.media_type(), text })
    });
    let tell = |bound: SocketAddr| out::say(format_args!("metrics are at http://{bound}/metrics"));
    match serve(address, access, metrics, tell) {
        Ok(never) => match never {},
        Err(error) => Err(CommandError::new(Exit::System, error_chain(&error))),
    }
}

/// Counts how services have ended.
type CountExits<'c> = &'c mut dyn FnMut(&[ServiceReport]) -> ExitCounts;

/// Returns all metrics as text, or why there are none.
fn text(manager: &ScandirManager, format: TextFormat, count: CountExits<'_>) -> Result<String, String> {
    let facts = gather(manager, count).map_err(|error| error_chain(&error))?;
    encode(&registry(facts), format).map_err(|error| error_chain(&error))
}

fn gather(manager: &ScandirManager, count: CountExits<'_>) -> Result<HomeFacts, inspect::InspectError> {
    let begun = Instant::now();
    let reports = inspect::survey(manager)?;
    let exits = count(&reports);
    let profiles = reports.iter().filter_map(|report| report.profile.as_ref());
    let incidents = profiles
        .filter_map(|name| {
            let kept = incidents::count(&incidents::logs_of(manager.home(), name)).ok()?;
            Some((name.as_str().to_owned(), kept))
        })
        .collect();
    let scandir = manager.scandir();
    // An agent that cannot be drained has no drains.
    let drained = reports.iter().filter(|report| report.profile.is_some());
    let drained = drained.filter(|_| manager.agent().gateway.drain.is_some());
    let drains = drained.map(|report| (report.service.clone(), drain::counts(scandir, &report.service)));
    let (drains, probes) = (drains.collect(), live::probe_counts(scandir));
    let log_counts = inspect::log_counts(scandir, reports.iter().map(|report| report.service.as_str()));
    let is_supervised = manager.supervisor_running().ok();
    let took_s = begun.elapsed().as_secs_f64();
    Ok(HomeFacts {
        reports,
        incidents,
        exits,
        drains,
        probes,
        log_counts,
        is_supervised,
        version: env!("CARGO_PKG_VERSION"),
        took_s,
    })
}
