//! Why a boot ends before the container supervises.
//!
//! *Lives here:* the reason. *Does not live here:* what is said about it, and the exit code
//! (`init`).

use gatevisor_boot::child::ChildError;

use crate::exit::{CommandError, Exit};

/// Why the boot ended.
pub(super) enum Stop {
    Failed(CommandError),
    /// A signal asked for the end.
    Signal(i32),
}

impl From<CommandError> for Stop {
    fn from(failure: CommandError) -> Self {
        Self::Failed(failure)
    }
}

impl From<ChildError> for Stop {
    fn from(error: ChildError) -> Self {
        match error {
            ChildError::Stopped(number) => Self::Signal(number),
            ChildError::System(_) | ChildError::TooLong(_) => {
                CommandError::new(Exit::System, format!("cannot boot: {error}")).into()
            }
        }
    }
}
