//! What is to be read, and why it cannot be.
//!
//! *Lives here:* the options of a reader, and its error. *Does not live here:* reading.

use std::path::PathBuf;

use crate::entry::Clock;
use crate::pick::Pick;

/// A log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The label of its lines.
    pub label: String,
    /// Its path; it need not exist.
    pub path: PathBuf,
    /// The meaning of stamps without a zone in it.
    pub clock: Clock,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The directories.
    pub dirs: Vec<Directory>,
    /// Which lines.
    pub pick: Pick,
    /// How many of the last of these lines of each directory; `None` means all.
    pub lines: Option<usize>,
    /// Whether to go on with new lines, and to wait for directories that do not exist yet.
    pub follow: bool,
}

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum LogReadError {
    /// A directory, or a file in it, cannot be read.
    #[error("cannot read the log directory `{}` of {label}", path.display())]
    Read {
        label: String,
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: std::io::Error,
    },
    /// The kernel cannot report changes.
    #[error("cannot follow changes of the log directories")]
    Watch(#[source] std::io::Error),
}
