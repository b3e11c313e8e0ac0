//! *Lives here:* what an agent definition says about its gateways' logs.
//!
//! *Does not live here:* the format of `log/run` and what its settings mean (`gatevisor-slot`).

use gatevisor_slot::{Compress, Forward, LogFile, Rate, Stderr, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of a gateway's log. Each replaces the default that holds if `log/run` says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogDefinition {
    /// Size in bytes of `current`.
    pub size: Option<u64>,
    /// The number of archives that are kept.
    pub keep: Option<u32>,
    /// Bytes of all archives together.
    pub total: Option<u64>,
    /// Seconds after which `current` becomes an archive.
    pub period_s: Option<u64>,
    /// How archives are compressed.
    pub compress: Option<Compress>,
    /// What each line begins with.
    pub timestamp: Option<Timestamp>,
    /// How lines are copied to the supervisor's standard output.
    pub forward: Option<Forward>,
    /// Expressions of which a line must match at least one.
    #[serde(default)]
    pub include: Vec<String>,
    /// Expressions of which a line must match none.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How many lines are kept in a period.
    pub rate: Option<Rate>,
    /// Where standard error goes.
    #[serde(default)]
    pub stderr: Stderr,
}

impl LogDefinition {
    /// Returns the settings of a log in `directory`.
    pub fn in_directory(&self, directory: String) -> LogFile {
        let plain = LogFile::new(directory);
        LogFile {
            size: self.size.unwrap_or(plain.size),
            keep: self.keep.unwrap_or(plain.keep),
            total: self.total,
            period_s: self.period_s,
            compress: self.compress.unwrap_or(plain.compress),
            timestamp: self.timestamp.unwrap_or(plain.timestamp),
            forward: self.forward.unwrap_or(plain.forward),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            rate: self.rate,
            ..plain
        }
    }
}
