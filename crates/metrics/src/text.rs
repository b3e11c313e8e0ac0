//! The two text formats of metrics.
//!
//! *Lives here:* which format somebody gets. *Does not live here:* the metrics (`families`).
//!
//! **Source:** `OpenMetrics` 1.0; Prometheus, *Exposition formats*.

use std::fmt;

use prometheus_client::registry::Registry;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// The text format of Prometheus, version 0.0.4, which every reader understands.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the format for somebody who accepts these media types.
    pub fn accepted(accept: &str) -> Self {
        let is_asked = accept
            .split(',')
            .any(|one| one.split(';').next().is_some_and(|it| it.trim() == "application/openmetrics-text"));
        if is_asked { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns the text of all metrics.
///
/// # Errors
/// A metric cannot be written, which is a bug.
pub fn encode(registry: &Registry, format: TextFormat) -> Result<String, fmt::Error> {
    let mut text = String::new();
    match format {
        TextFormat::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, registry)?,
        TextFormat::Prometheus => prometheus_client::encoding::prometheus_text::encode(&mut text, registry)?,
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let table = [
            ("", TextFormat::Prometheus),
            ("*/*", TextFormat::Prometheus),
            ("text/plain;version=0.0.4;q=0.3,*/*;q=0.1", TextFormat::Prometheus),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", TextFormat::OpenMetrics),
            ("text/plain, application/openmetrics-text", TextFormat::OpenMetrics),
        ];
        for (accept, format) in table {
            assert_eq!(TextFormat::accepted(accept), format, "{accept}");
        }
    }
}
