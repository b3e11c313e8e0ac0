//! Alerts: when somebody is told that a gateway does not work, and in which words.
//!
//! *Lives here:* the settings, the decisions, the limits, the texts, and the arguments of the
//! programs that send. Time is an argument. No I/O at all.
//! *Does not live here:* looking at gateways, files, and running programs (the binary).
//!
//! *May depend on it:* the binary alone.
#![forbid(unsafe_code)]

mod delivery;
mod machine;
mod message;
mod outbox;
mod request;
mod settings;
mod subject;

pub use delivery::{Delivery, DeliveryOutcome};
pub use machine::{AlertFinding, AlertMachine, OpenProblem, Sighting, fullness};
pub use message::{AlertEvent, AlertMessage, AlertProblem, News};
pub use outbox::Outbox;
pub use request::{Origin, SendRequest, request};
pub use settings::{AlertDestination, AlertKind, AlertSettings, MAX_BYTES, Preset, SettingsProblem};
pub use subject::AlertSubject;
