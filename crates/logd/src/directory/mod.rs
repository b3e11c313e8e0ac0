//! A log directory: `current`, its archives, `lock` and `state`, in the form of s6-log.
//!
//! *Lives here:* writing, rotation, recovery after a crash, compression of archives, and the stamps
//! of lines.
//! *Does not live here:* the reaction to a directory that cannot be written (`pipeline::sink`), and
//! reading one back (`gatevisor-logreader`). *May use it:* every other room; it uses none.

mod archives;
mod compress;
mod error;
mod files;
mod keeper;
mod limits;
mod lock;
mod log_dir;
mod position;
pub mod rotation;
pub mod stamp;

pub use error::{DirError, DirStep, Unwritten};
pub use keeper::Keeper;
pub use limits::LogLimits;
pub use log_dir::LogDir;
pub use position::{FilePosition, ProgressObserver};
