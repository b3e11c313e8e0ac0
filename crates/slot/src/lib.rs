//! The executable TOML of a slot.
//!
//! *Lives here:* the two file formats (`run` and `log/run`), rendering and reading them, `${VAR}` expansion, dotenv
//! files, and the two interpreters: [`run_service`], which becomes the command that `run` describes, and
//! [`run_finish`], which tells a permanent failure from a passing one.
//!
//! *Does not live here:* where slots are published and what a profile's command is (`gatevisor-gateways`), restart
//! policy (`gatevisor-core`), what happens to a line once it is written (`gatevisor-logd`).
//!
//! The kernel starts the interpreter with the service directory as working directory, once for every start of a
//! service; so it reads one file, forks at most one prober, and is gone.
#![forbid(unsafe_code)]

pub mod dotenv;
pub mod expand;
mod failure;
pub mod file;
mod finish;
pub mod http;
mod identity;
mod interpreter;
mod os;
mod probe;
pub mod render;

pub use expand::{ExpandError, expand};
pub use failure::START_ERROR;
pub use file::{
    Forward, LogFile, ParseError, Ready, ServiceFile, Stderr, Timestamp, parse_log, parse_service,
};
pub use finish::run_finish;
pub use identity::{Identity, IdentityError, decide as decide_identity};
pub use interpreter::run_service;
pub use os::{ReadFile, read_file};
pub use render::{RenderError, render_finish, render_log, render_service};
