//! Every decision of the supervisor, without any input or output.
//!
//! *Lives here:* the service machine ([`machine`]) and its inputs ([`input`]), the restart policy
//! ([`restart`]), which process starts next ([`start_queue`]), what a scan looks at
//! ([`scan_queue`]) and what it means ([`scan`]), whose turn it is ([`fair`]), how fast commands
//! are obeyed ([`command_limiter`]), the stages of the shutdown ([`shutdown`]) and its order
//! ([`stop`]), when a log daemon starts again ([`log_daemon`]).
//! *Does not live here:* clocks, files, processes. Time is an argument, facts from disk travel
//! inside events, and what must happen is returned as a list of effects.
//!
//! *May depend on it:* `init`; `gateways` and the binary, for the numbers of the restart policy.
#![forbid(unsafe_code)]

pub mod command_limiter;
pub mod descriptors;
pub mod effect;
pub mod fair;
pub mod input;
pub mod log_daemon;
pub mod machine;
pub mod restart;
pub mod scan;
pub mod scan_queue;
pub mod shutdown;
pub mod start_queue;
pub mod stop;
pub mod time;

pub use effect::{Coalesced, Coalescing, Leftover, ServiceEffect, ServiceEffects};
pub use input::ServiceInput;
pub use machine::Machine;
pub use time::{Now, Tick};
