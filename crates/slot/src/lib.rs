//! The executable TOML of a slot.
//!
//! *Lives here:* the two file formats (`run` and `log/run`), rendering and reading them, `${VAR}`
//! expansion, dotenv files; and these programs:
//! - the two interpreters: [`run_service`], which becomes the command that `run` describes, and
//!   [`run_finish`], which distinguishes a permanent failure from a temporary one;
//! - what the interpreter does before that: it waits for a permit to start
//!   ([`start_permits`]), checks who has the home ([`home_lock`]), tells why it is started again
//!   ([`restart_reason`]) and restricts itself ([`confine`]);
//! - what it leaves beside the command: the prober (`probe`, [`http`], [`answerer`]) and the
//!   receiver of the service's own reports ([`notify`]);
//! - what the supervisor starts as a service's user, before a start or after a death
//!   ([`survivors`], [`handoff`], [`group`]).
//!
//! *Does not live here:* where slots are published and the command of a profile
//! (`gatevisor-gateways`), restart policy (`gatevisor-core`), and the processing of written lines
//! (`gatevisor-logd`).
//!
//! *May depend on it:* `gateways`, which writes slots, `logd`, which reads `log/run`, `boot`,
//! `doctor` and the binary. Never `init`.
//!
//! The kernel starts the interpreter with the service directory as working directory, once for
//! every start of a service. So it reads one file, forks a few helpers at most, and becomes the
//! command.
#![forbid(unsafe_code)]

pub mod answerer;
pub mod confine;
mod data_files;
pub mod dotenv;
mod error_reporter;
pub mod expand;
mod failure;
pub mod file;
mod finish;
pub mod group;
pub mod handoff;
pub mod home_lock;
pub mod http;
mod identity;
mod interpreter;
pub mod live;
pub mod log;
mod lookups;
pub mod notify;
mod os;
mod parse_error;
pub mod patterns;
mod probe;
mod readiness;
pub mod render;
pub mod restart_reason;
mod start_delay;
pub mod start_permits;
pub mod survivors;

pub use confine::settings::{Landlock, LimitName, ResourceLimit};
pub use data_files::START_ERROR;
pub use expand::{ExpandError, expand};
pub use file::{Ready, ServiceFile, Stderr, parse_log, parse_service};
pub use finish::run_finish;
pub use group::{end_group, run_in_group};
pub use handoff::{Handoff, run_ask_handoff};
pub use identity::{IdentityError, RunAs, decide as decide_identity};
pub use interpreter::run_service;
pub use log::{Compress, Forward, LogFile, Rate, Timestamp};
pub use os::{ReadFile, read_file};
pub use parse_error::ParseError;
pub use patterns::{PatternError, Patterns};
pub use render::{RenderError, render_finish, render_log, render_service};
pub use survivors::run_end_survivors;
