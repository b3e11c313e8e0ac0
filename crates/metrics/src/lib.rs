//! Metrics of gateways, in the text formats of Prometheus.
//!
//! *Lives here:* the names, labels and meanings of the metrics (`families`), and their text
//! (`text`).
//! *Does not live here:* gathering the reports (`gateways`), and serving (`web`).
//!
//! *May depend on it:* the binary alone.
//!
//! An unknown value is left out.
#![forbid(unsafe_code)]

mod families;
mod text;

pub use families::{HomeFacts, registry};
pub use text::{TextFormat, encode};
