//! A log directory: `current`, its archives, `lock` and `state`, as s6-log keeps them.
//!
//! *Lives here:* writing, rotation, recovery after a crash, compression of archives, and the stamps that lines begin with.
//! *Does not live here:* what happens while a directory cannot be written (`pipeline::sink`), and reading one back
//! (`gatevisor-logreader`). *May use it:* every other room; it uses none.

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
