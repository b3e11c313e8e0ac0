//! Every decision of the supervisor, without any input or output.
//!
//! *Lives here:* the service machine ([`machine`]), the restart policy ([`restart`]), what a rescan
//! means ([`scan`]), whose turn it is ([`fair`]), in which order the end comes ([`stop`]), when a
//! log daemon starts again ([`log_daemon`]).
//! *Does not live here:* clocks, files, processes. Time is an argument, facts from disk travel
//! inside events, and what must happen is returned as a list of effects.
//!
//! *May depend on it:* `init`; `gateways` and the binary, for the numbers of the restart policy.
#![forbid(unsafe_code)]

pub mod effect;
pub mod fair;
pub mod log_daemon;
pub mod machine;
pub mod restart;
pub mod scan;
pub mod stop;
pub mod time;

pub use effect::{Leftover, ServiceEffect, ServiceEffects};
pub use machine::{Machine, ServiceInput};
pub use time::{Now, Tick};
