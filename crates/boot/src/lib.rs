//! What a container needs before its supervisor runs. The process that does it then becomes the
//! supervisor.
//!
//! *Lives here:* the run-time directories (`runtime_directories`), the environment on disk, the
//! agent's user, the owners and the content of the home, hooks, the services besides the gateways,
//! and the meaning of the container's arguments.
//!
//! *Does not live here:* the order of these steps, and printing (the binary); the slots of the
//! gateways (`gateways`); anything after the boot (`init`).
//!
//! *May depend on it:* only the binary. A home outside of a container needs nothing of this.
//!
//! Everything that the agent's user can do is done as that user, in a process of its own. Then a
//! link that the agent made leads nowhere that the agent could not go itself.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod child;
pub mod environment;
pub mod hooks;
pub mod presence;
pub mod repair;
pub mod route;
pub mod runtime_directories;
pub mod seed;
pub mod services;
pub mod volume;
