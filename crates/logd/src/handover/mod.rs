//! The state that a log daemon keeps, so that the next one continues at the same place.
//!
//! *Lives here:* the stage, which holds bytes that have left their pipes, and the journal, which
//! records their streams and their progress.
//! *Does not live here:* the processing of the bytes (`pipeline`), and the two memory files, which
//! the supervisor makes. *May use it:* `console`, `pipeline` and `daemon`; it uses `directory`.

pub(crate) mod entry;
pub(crate) mod journal;
pub(crate) mod segments;
pub(crate) mod skipped;
pub(crate) mod stage;
