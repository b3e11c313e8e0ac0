//! *Lives here:* the words of the command line about drains.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::drain`).

use std::time::Duration;

use clap::Args;

use super::times::limit;
use super::{Choice, ControlOptions};

/// Which gateways to stop or restart, and whether to drain them first.
#[derive(Debug, Args)]
pub struct DrainedControl {
    /// Which gateways, and how.
    #[command(flatten)]
    pub control: ControlOptions,
    /// Let the gateway finish its work for at most TIME first, e.g. `90s` or `5m` [default: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = limit)]
    pub drain: Option<Duration>,
}

/// Which gateways to restart, and how.
#[derive(Debug, Args)]
pub struct RestartOptions {
    /// Which, and whether to drain them first.
    #[command(flatten)]
    pub drained: DrainedControl,
    /// Restart the gateway in which this command runs, soon; returns at once
    #[arg(long = "self", conflicts_with_all = ["names", "all", "failed", "unresponsive", "no_wait", "ready", "window",
        "timeout"])]
    pub own: bool,
    /// With --self, refuse if it cannot be known when the turn that asks is over
    #[arg(long, requires = "own")]
    pub after_turn: bool,
}

/// Which gateways to drain, for how long, and the next step.
#[derive(Debug, Args)]
pub struct DrainOptions {
    #[command(flatten)]
    pub choice: Choice,
    /// End the drain after this long, whatever the gateway does; such as `90s`, `10m` or `1h30m`
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = limit)]
    pub limit: Duration,
    /// Do this to a gateway once it is idle or the time is over
    #[arg(long, value_enum, default_value_t = ThenOption::Nothing)]
    pub then: ThenOption,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// End a drain that is under way; the gateway takes work again
    #[arg(long, conflicts_with_all = ["limit", "then", "reason"])]
    pub cancel: bool,
}

/// The next step after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ThenOption {
    /// Stop the gateway
    Stop,
    /// Restart the gateway
    Restart,
    /// Nothing: keep it from new work until the time is over
    Nothing,
}
