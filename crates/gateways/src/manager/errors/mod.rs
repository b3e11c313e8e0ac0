//! *Lives here:* why a manager could not do what it was asked. Each message says what was tried,
//! why it failed and what to do.
//!
//! *Does not live here:* printing them.

mod control;
mod pid_suffix;
mod unregister;
mod wait;

pub use control::{ControlError, GatewayVerb, RegisterError};
pub use unregister::UnregisterError;
pub use wait::{GatewayWaitError, ListServicesError};
