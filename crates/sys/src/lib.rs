//! The only door to the kernel for everything that the standard library and rustix do not offer,
//! and the only crate with `unsafe` code.
//!
//! *Lives here:* starting processes, signals, credentials, descriptor passing, FIFOs, locks, small
//! files read and replaced through directory descriptors, refused looks, clocks, memory that
//! outlives a process; who may change a path; the environment and search path of started programs.
//! Everything unsafe is in `raw`.
//! *Does not live here:* any decision about a service (see `gatevisor-core`), any format of the s6
//! contract (see `gatevisor-wire`).
//!
//! *May depend on it:* every crate but `wire`, `core` and `liveness`, which do no I/O.
#![deny(unsafe_code)]

pub mod call;
pub mod clock;
pub mod descriptor_pool;
pub mod environment;
pub mod file;
pub mod inotify;
pub mod memory;
pub mod proc;
pub mod process;
pub mod program;
mod raw;
pub mod refused;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tcp;
pub mod trust;
pub mod user;

pub use rustix::io::Errno;
