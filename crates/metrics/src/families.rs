//! The metrics of one moment.
//!
//! *Lives here:* their names, labels and meanings. *Does not live here:* their text (`text`).
//!
//! The labels are bounded: a service's name, its profile, and words from lists of ours.

use std::collections::BTreeMap;
use std::fmt;

use gatevisor_gateways::drain::DrainCounts;
use gatevisor_gateways::inspect::{ExitCounts, LogCounts, ServiceReport, ServiceState};
use gatevisor_gateways::live::{LiveState, ProbeCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// The facts about a home at one moment.
#[derive(Debug, Clone)]
pub struct HomeFacts {
    /// The reports of all its services.
    pub reports: Vec<ServiceReport>,
    /// How many incidents are kept of each profile, by its name.
    pub incidents: Vec<(String, usize)>,
    /// How often each service has ended in each way; empty if that is not counted.
    pub exits: ExitCounts,
    /// How often the drains of each service have ended in each way; only of those that can be
    /// drained.
    pub drains: BTreeMap<String, DrainCounts>,
    /// How many questions of the watcher each service has answered.
    pub probes: BTreeMap<String, ProbeCounts>,
    /// How many lines the log of each service has received; only of those whose daemon tells.
    pub log_counts: BTreeMap<String, LogCounts>,
    /// Whether a supervisor runs on its scandir; `None` if that is unknown.
    pub is_supervised: Option<bool>,
    /// The version of this program.
    pub version: &'static str,
    /// Seconds that it took to find this out.
    pub took_s: f64,
}

/// Returns the registry of these facts.
pub fn registry(facts: HomeFacts) -> Registry {
    let mut registry = Registry::with_prefix("gatevisor");
    registry.register_collector(Box::new(HomeCollector(facts)));
    registry
}

/// A label and its value.
type Label = (&'static str, String);

/// A value with its labels.
type LabelledValue = (Vec<Label>, f64);

/// The name and the meaning of a metric.
struct Heading {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
}

impl Heading {
    const fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>) -> Self {
        Self { name, help, unit, kind: MetricType::Gauge }
    }

    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Counter }
    }
}

/// A metric of a service, and its samples, without the labels that name the service.
type ServiceMetric = (Heading, fn(&ServiceReport) -> Vec<LabelledValue>);

#[derive(Debug)]
struct HomeCollector(HomeFacts);

impl Collector for HomeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.of_the_home(&mut encoder)?;
        for (heading, samples_of) in service_metrics() {
            let of_one = |report| samples_of(report).into_iter().map(move |sample| named(report, sample));
            let samples = self.0.reports.iter().flat_map(of_one);
            family(&mut encoder, &heading, samples)?;
        }
        let (facts, reports) = (&self.0, self.0.reports.iter());
        let exits = "How often it has ended with this exit code or by this signal.";
        let exits = Heading::counter("service_exits", exits);
        family(&mut encoder, &exits, reports.clone().flat_map(|report| facts.exits_of(report)))?;
        let drains =
            Heading::counter("service_drains", "How often a drain of it has ended, by how it ended.");
        family(&mut encoder, &drains, reports.clone().flat_map(|report| facts.drains_of(report)))?;
        let probes = "Questions of the watcher of gateways to it, by whether it answered.";
        let probes = Heading::counter("service_probes", probes);
        family(&mut encoder, &probes, reports.clone().flat_map(|report| facts.probes_of(report)))?;
        for (heading, count_of) in log_metrics() {
            let told =
                reports.clone().filter_map(|report| Some((report, facts.log_counts.get(&report.service)?)));
            let samples = told.map(|(report, counts)| named(report, bare(whole(count_of(counts)))));
            family(&mut encoder, &heading, samples)?;
        }
        Ok(())
    }
}

impl HomeCollector {
    /// Writes the metrics of the home as a whole.
    fn of_the_home(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let facts = &self.0;
        let supervised = Heading::gauge("supervisor_up", "Whether a supervisor runs.", None);
        family(encoder, &supervised, facts.is_supervised.map(number).into_iter().map(bare))?;
        let took = "Time that it took to find out these metrics.";
        let took = Heading::gauge("collection", took, Some(Unit::Seconds));
        family(encoder, &took, std::iter::once(bare(facts.took_s)))?;
        let build = Heading::gauge("build_info", "The version of Gatevisor; always 1.", None);
        let version = vec![("version", facts.version.to_owned())];
        family(encoder, &build, std::iter::once((version, 1.0)))?;
        let states = Heading::gauge("gateways", "How many gateways are in each state.", None);
        family(encoder, &states, ServiceState::ALL.into_iter().map(|state| facts.in_state(state)))?;
        let kept = Heading::gauge("gateway_incidents", "How many incidents are kept of a profile.", None);
        let of_profile =
            |(profile, count): &(String, usize)| (vec![("profile", profile.clone())], count_of(*count));
        family(encoder, &kept, facts.incidents.iter().map(of_profile))
    }
}

impl HomeFacts {
    fn exits_of<'a>(&'a self, report: &'a ServiceReport) -> impl Iterator<Item = LabelledValue> + 'a {
        let counts = self.exits.get(&report.service).into_iter().flatten();
        counts.map(|(way, count)| named(report, (vec![way.words()], whole(*count))))
    }

    fn drains_of<'a>(&'a self, report: &'a ServiceReport) -> impl Iterator<Item = LabelledValue> + 'a {
        let counts = self.drains.get(&report.service).into_iter().flat_map(DrainCounts::by_outcome);
        counts.map(|count| by_outcome(report, count))
    }

    fn probes_of<'a>(&'a self, report: &'a ServiceReport) -> impl Iterator<Item = LabelledValue> + 'a {
        let counts = self.probes.get(&report.service).into_iter();
        let counts = counts.flat_map(|counts| [("answered", counts.answered), ("failed", counts.failed)]);
        counts.map(|count| by_outcome(report, count))
    }

    fn in_state(&self, state: ServiceState) -> LabelledValue {
        let is_counted = |report: &&ServiceReport| report.profile.is_some() && report.state == state;
        let count = self.reports.iter().filter(is_counted).count();
        (vec![("state", word(state))], count_of(count))
    }
}

/// Writes a metric with its samples; nothing at all if it has none.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    heading: &Heading,
    samples: impl Iterator<Item = LabelledValue>,
) -> Result<(), fmt::Error> {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut family =
        encoder.encode_descriptor(heading.name, heading.help, heading.unit.as_ref(), heading.kind)?;
    for (labels, value) in samples {
        let one = family.encode_family(&labels)?;
        match heading.kind {
            MetricType::Counter => ConstCounter::new(value).encode(one)?,
            _ => ConstGauge::new(value).encode(one)?,
        }
    }
    Ok(())
}

/// Returns a sample with the labels that name its service.
fn named(report: &ServiceReport, (labels, value): LabelledValue) -> LabelledValue {
    let profile = report.profile.as_ref().map_or_else(String::new, |name| name.as_str().to_owned());
    let own = [("service", report.service.clone()), ("profile", profile)];
    (own.into_iter().chain(labels).collect(), value)
}

/// Returns how often something of a service has ended in this way.
fn by_outcome(report: &ServiceReport, (outcome, count): (&str, u64)) -> LabelledValue {
    named(report, (vec![("outcome", outcome.to_owned())], whole(count)))
}

/// Returns the word for a state, as JSON has it.
fn word(state: ServiceState) -> String {
    state.words().replace(' ', "-")
}

/// A count of a service's log.
type LogMetric = (Heading, fn(&LogCounts) -> u64);

/// Returns the counts of the logs of services.
fn log_metrics() -> [LogMetric; 4] {
    [
        (Heading::counter("service_log_lines", "Lines that its log has received."), |counts| counts.lines),
        (
            Heading::counter("service_log_bytes", "Bytes that its log has received, with time stamps."),
            |counts| counts.bytes,
        ),
        (
            Heading::counter(
                "service_log_missing",
                "Lines that are missing in its log because it could not be written.",
            ),
            |counts| counts.missing,
        ),
        (Heading::counter("service_log_gaps", "How often lines began to be missing in its log."), |counts| {
            counts.gaps
        }),
    ]
}

/// Returns all metrics of a service.
fn service_metrics() -> impl Iterator<Item = ServiceMetric> {
    [states(), starts_and_ends(), usage()].into_iter().flatten()
}

/// Returns the metrics of the state of a service.
fn states() -> Vec<ServiceMetric> {
    vec![
        (
            Heading::gauge("service_state", "The state of a service, as `status` says it; always 1.", None),
            |report| vec![(vec![("state", word(report.state))], 1.0)],
        ),
        (Heading::gauge("service_wanted", "Whether a service shall run.", None), |report| {
            optional(report.is_wanted().map(number))
        }),
        (
            Heading::gauge("service_up", "Whether its command was executed and has not ended.", None),
            |report| optional(report.up.map(number)),
        ),
        (Heading::gauge("service_ready", "Whether it is known to be ready.", None), |report| {
            optional(report.ready.map(number))
        }),
        (
            Heading::gauge(
                "service_works",
                "Whether it does what it is there for, as `health` judges.",
                None,
            ),
            |report| optional(report.is_healthy().map(number)),
        ),
        (
            Heading::gauge(
                "service_live",
                "Whether it has shown that it works; left out if that is not known.",
                None,
            ),
            |report| optional(report.is_live().map(number)),
        ),
        (Heading::gauge("service_live_misses", "Looks in a row that found no evidence.", None), |report| {
            let said = report.live.as_ref().filter(|live| live.state != LiveState::Unknown);
            optional(said.map(|live| f64::from(live.misses)))
        }),
        (Heading::gauge("service_draining", "Whether somebody drains it.", None), |report| {
            supervised(report, number(report.drain.is_some()))
        }),
        (
            Heading::gauge("service_in_state", "Time since it came up or went down.", Some(Unit::Seconds)),
            |report| report.updownfor.map(|time| supervised(report, whole(time))).unwrap_or_default(),
        ),
    ]
}

/// Returns the metrics of starts and ends.
fn starts_and_ends() -> Vec<ServiceMetric> {
    vec![
        (
            Heading::gauge(
                "service_ready_after",
                "Time that its present run took to become ready.",
                Some(Unit::Seconds),
            ),
            |report| optional(report.ready_after_ms.map(seconds)),
        ),
        (
            Heading::gauge(
                "service_next_start",
                "Time until its next start, if it waits for one.",
                Some(Unit::Seconds),
            ),
            |report| optional(report.next_start_in_ms.map(seconds)),
        ),
        (
            Heading::counter(
                "service_restarts",
                "Starts after a death that nobody requested (`itself`), or after a requested one (`command`).",
            ),
            |report| {
                let by = |cause, count: Option<u64>| {
                    count.map(|count| (vec![("cause", String::from(cause))], whole(count)))
                };
                [by("itself", report.restarts), by("command", report.commanded_restarts)]
                    .into_iter()
                    .flatten()
                    .collect()
            },
        ),
        (
            Heading::gauge(
                "service_last_exit_code",
                "The exit code of its last death, while it is down.",
                None,
            ),
            |report| optional(report.exitcode.map(f64::from)),
        ),
        (
            Heading::gauge(
                "service_last_exit_signal",
                "The signal of its last death, while it is down; always 1.",
                None,
            ),
            |report| {
                report
                    .signal
                    .as_deref()
                    .map(|signal| (vec![("signal", String::from(signal))], 1.0))
                    .into_iter()
                    .collect()
            },
        ),
    ]
}

/// Returns the metrics of memory and processor time.
fn usage() -> Vec<ServiceMetric> {
    vec![
        (
            Heading::gauge("service_cpu", "Processor time of its present processes.", Some(Unit::Seconds)),
            |report| optional(report.cpu_ms.map(seconds)),
        ),
        (
            Heading::gauge(
                "service_memory",
                "Resident memory of its processes; a shared page counts once for each.",
                Some(Unit::Bytes),
            ),
            |report| optional(report.memory_bytes.map(whole)),
        ),
        (Heading::gauge("service_processes", "The number of its processes.", None), |report| {
            optional(report.processes.map(f64::from))
        }),
        (Heading::gauge("service_log_kept", "Whether its lines can be kept at present.", None), |report| {
            supervised(report, number(report.log_problem.is_none()))
        }),
    ]
}

/// Returns a value without labels.
const fn bare(value: f64) -> LabelledValue {
    (Vec::new(), value)
}

fn one(value: f64) -> Vec<LabelledValue> {
    vec![bare(value)]
}

fn optional(value: Option<f64>) -> Vec<LabelledValue> {
    value.map(one).unwrap_or_default()
}

/// Returns a value, unless the service may not be looked at.
fn known(report: &ServiceReport, value: f64) -> Vec<LabelledValue> {
    optional((report.state != ServiceState::Unknown).then_some(value))
}

/// Returns a value, unless nobody supervises the service.
fn supervised(report: &ServiceReport, value: f64) -> Vec<LabelledValue> {
    if report.state == ServiceState::NotSupervised { Vec::new() } else { known(report, value) }
}

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a floating-point number")]
fn whole(value: u64) -> f64 {
    value as f64
}

fn count_of(count: usize) -> f64 {
    whole(u64::try_from(count).unwrap_or(u64::MAX))
}

fn seconds(ms: u64) -> f64 {
    whole(ms) / 1000.0
}
