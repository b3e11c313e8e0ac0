//! What a container needs before its supervisor runs, done by the process that then becomes the supervisor.
//!
//! *Lives here:* the environment on disk, the agent's user, whose the home is and what it holds, hooks, the services
//! besides the gateways, and what the container's arguments mean.
//! *Does not live here:* the order of it all, and printing (the binary); the slots of the gateways (`gateways`);
//! anything after the boot (`init`).
//!
//! *May depend on it:* the binary alone; what only a container needs is linked to nothing that a home needs.
//!
//! Everything that can be done as the agent's user is done as that user, in a process of its own: then a link that the
//! agent made leads nowhere the agent could not go itself.
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
