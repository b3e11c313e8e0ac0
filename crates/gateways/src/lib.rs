//! Profiles, agent definition, desired state, slots, managers of gateways, and reconciliation.
//!
//! *Lives here:* everything that knows what a profile is. It is an ordinary, unprivileged client of a scandir, and so
//! works on a genuine s6 tree as on ours.
//!
//! *Does not live here:* supervision (`gatevisor-init`, `gatevisor-core`), the s6 formats (`gatevisor-wire`), the files
//! `run` and `log/run` (`gatevisor-slot`), output and the command line (`gatevisor`).
//!
//! *May depend on it:* `boot`, `doctor` and the binary. Never `init`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod desired;
mod files;
pub mod incidents;
pub mod inspect;
pub mod lifecycle;
pub mod live;
pub mod manager;
mod marker;
pub mod ports;
pub mod profile;
pub mod reconcile;
pub mod slots;
pub mod tree;
pub mod watch;

pub use agent::AgentDefinition;
pub use files::{ReadFileError, is_locked, nameless_file, open_lock, read_bounded};
pub use manager::{ScandirManager, ServiceManager};
pub use profile::{Home, ProfileName};
