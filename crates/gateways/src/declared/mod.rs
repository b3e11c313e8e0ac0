//! *Lives here:* the profiles that a file declares from outside of the home: reading the file,
//! deciding what follows from it, and carrying that out at a boot and while a supervisor runs.
//!
//! *Does not live here:* the desired states that commands record (see [`crate::desired`]), and the
//! slots (see [`crate::reconcile`] and [`crate::manager`]).
//!
//! Whoever places a home, such as Kubernetes, Compose or a script of a NAS, says in one file which
//! profiles the home shall have and which gateways shall run. A command inside of the home may say
//! something else. That is *drift*: it is shown, and then reverted or kept, as the file says. What
//! the file does not name is left alone.
//!
//! What was read last is kept in the home. So a file that is bad changes nothing, and commands that
//! have no such variable in their environment show the same.

mod apply;
mod decide;
mod file;
mod kept;
mod watch;

pub(crate) use apply::at_boot;
pub use decide::{DeclaredAction, FoundProfileState, decide};
pub use file::{Declaration, DeclarationError, DeclaredProfile, DriftPolicy};
pub use kept::{DeclaredReport, KeptDeclaration, KeptProfile};
pub use watch::{DeclarationWatcher, WatchDeclarationError};

/// The variable of the environment that names the file.
pub const VARIABLE: &str = "GATEVISOR_PROFILES_FILE";

/// What is recorded as the command that set a desired state.
pub const COMMAND: &str = "profiles file";
