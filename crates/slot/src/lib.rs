//! The executable TOML of a slot.
//!
//! *Lives here:* the two file formats (`run` and `log/run`), rendering and reading them, `${VAR}` expansion, dotenv
//! files, and the two interpreters: [`run_service`], which becomes the command that `run` describes, and
//! [`run_finish`], which tells a permanent failure from a passing one.
//!
//! *Does not live here:* where slots are published and what a profile's command is (`gatevisor-gateways`), restart
//! policy (`gatevisor-core`), what happens to a line once it is written (`gatevisor-logd`).
//!
//! *May depend on it:* `gateways`, which writes slots, `logd`, which reads `log/run`, `boot` and the binary. Never `init`.
//!
//! The kernel starts the interpreter with the service directory as working directory, once for every start of a
//! service; so it reads one file, forks at most one prober, and is gone.
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
pub mod home_lock;
pub mod http;
mod identity;
mod interpreter;
pub mod live;
pub mod log;
pub mod notify;
mod os;
mod parse_error;
pub mod patterns;
mod probe;
mod readiness;
pub mod render;
pub mod survivors;

pub use confine::settings::{Landlock, LimitName, ResourceLimit};
pub use data_files::START_ERROR;
pub use expand::{ExpandError, expand};
pub use file::{Ready, ServiceFile, Stderr, parse_log, parse_service};
pub use finish::run_finish;
pub use group::{end_group, run_in_group};
pub use identity::{IdentityError, RunAs, decide as decide_identity};
pub use interpreter::run_service;
pub use log::{Compress, Forward, LogFile, Rate, Timestamp};
pub use os::{ReadFile, read_file};
pub use parse_error::ParseError;
pub use patterns::{PatternError, Patterns};
pub use render::{RenderError, render_finish, render_log, render_service};
pub use survivors::run_end_survivors;
