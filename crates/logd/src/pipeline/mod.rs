//! The way of a batch of bytes from a service's pipe to its log file and to the console.
//!
//! *Lives here:* `stream`, which takes each batch through the stations: the stage, `compose`, the
//! sink, the console; and the settings of a service.
//! *Does not live here:* when a pipe is read (`daemon`), the log directory (`directory`), the state
//! that outlives the process (`handover`). *May use it:* `daemon`.

pub(crate) mod batch;
pub mod compose;
mod counts_file;
mod error_note;
mod framed;
pub(crate) mod service;
pub(crate) mod settings;
mod sink;
pub mod stamping;
pub(crate) mod stream;
