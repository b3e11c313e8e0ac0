//! What a log daemon keeps so that the one after it goes on where it was.
//!
//! *Lives here:* the stage, which holds bytes that have left their pipes, and the journal, which says whose they are and
//! how far. *Does not live here:* what becomes of the bytes (`pipeline`), and the two files of memory, which the
//! supervisor makes. *May use it:* `console`, `pipeline` and `daemon`; it uses `directory`.

pub(crate) mod entry;
pub(crate) mod journal;
pub(crate) mod segments;
pub(crate) mod skipped;
pub(crate) mod stage;
