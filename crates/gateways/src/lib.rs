//! Profiles, agent definition, desired state, slots, managers of gateways, and reconciliation.
//!
//! *Lives here:* everything that knows what a profile is. It is an ordinary, unprivileged client of
//! a scandir, and so works on a genuine s6 tree as on ours:
//! - what is kept: profiles (`profile`), the agent definition (`agent`), desired states
//!   (`desired`), what a file outside of the home declares (`declared`), and which gateway serves
//!   which profile (`topology`);
//! - what is made of it: slots (`slots`), anew before a supervisor starts (`reconcile`) and while
//!   it runs (`watch`);
//! - what is done: starts, stops and restarts (`manager`), drains (`drain`), a gateway's request
//!   for its own restart (`ticket`);
//! - what is left of a supervisor that was killed (`earlier`);
//! - what is seen: reports (`inspect`), evidence that gateways work (`live`), and what is collected
//!   when one does not (`incidents`).
//!
//! *Does not live here:* supervision (`gatevisor-init`, `gatevisor-core`), the s6 formats
//! (`gatevisor-wire`), the files `run` and `log/run` (`gatevisor-slot`), output and the command
//! line (`gatevisor`).
//!
//! *May depend on it:* `boot`, `doctor`, `metrics` and the binary. Never `init`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod declared;
pub mod desired;
pub mod drain;
pub mod earlier;
pub mod files;
pub mod incidents;
pub mod inspect;
pub mod lifecycle;
pub mod live;
pub mod manager;
pub mod misspelling;
mod planned_stop_marker;
pub mod ports;
pub mod profile;
pub mod reconcile;
pub mod slots;
pub mod ticket;
pub mod topology;
pub mod tree;
pub mod variables;
pub mod watch;

pub use agent::AgentDefinition;
pub use files::{ReadFileError, is_locked, nameless_file, open_lock, read_bounded};
pub use manager::{ScandirManager, ServiceManager};
pub use profile::{Home, ProfileName};
