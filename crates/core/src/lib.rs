//! The decisions of the supervisor, without any input or output.
//!
//! *Lives here:* the service machine ([`machine`]) and its inputs ([`input`]), the restart policy
//! ([`restart`]), which process starts next ([`start_queue`]) and how ([`launch`]), what a scan
//! looks at ([`scan_queue`]), the life of an entry ([`entry`]) and of a refused one ([`refusals`]),
//! whose directories and scripts are trusted ([`trust`]), whether there is room for one more
//! ([`capacity`]), whose turn it is ([`fair`]), what is asked of the supervisor itself
//! ([`request`]) and how fast commands are obeyed ([`command_limiter`]), the container's command
//! ([`command`]), the stages of the shutdown ([`shutdown`]) and its order ([`stop`]), when a log
//! daemon or the companion starts again ([`helper`]), which unread lines are thrown away
//! ([`unread`]), who receives an event later or not at all ([`broadcasts`]), what the service
//! manager of the host is told ([`host_manager`]).
//! *Does not live here:* clocks, files, processes. Time is an argument, facts travel inside events,
//! and what must happen is returned as a list of effects. A fact that costs a system call and
//! seldom matters is a closure of the caller's (in [`request`], [`entry`], [`launch`],
//! [`scan_queue`], [`shutdown`]). A slice of a broadcast is sent by a closure, too
//! ([`broadcasts`]), because its outcome decides what comes next. How many events, names and deaths
//! are handled before others, and the pipes of a service, are up to `init`.
//!
//! *May depend on it:* `init`; `doctor` and the binary, for the numbers of the restart policy.
#![forbid(unsafe_code)]

pub mod broadcasts;
pub mod capacity;
pub mod command;
pub mod command_limiter;
pub mod effect;
pub mod entry;
pub mod fair;
pub mod helper;
pub mod host_manager;
pub mod input;
pub mod launch;
pub mod machine;
pub mod refusals;
pub mod request;
pub mod restart;
pub mod scan_queue;
pub mod shutdown;
pub mod start_queue;
pub mod stop;
pub mod time;
pub mod trust;
pub mod unread;

pub use effect::{Coalesced, Coalescing, Leftover, ServiceEffect, ServiceEffects};
pub use input::ServiceInput;
pub use machine::Machine;
pub use time::{Now, Tick};
