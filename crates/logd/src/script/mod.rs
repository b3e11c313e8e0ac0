//! The logging script of s6-log: the meaning of its directives, and executing them.
//!
//! *Lives here:* the parser ([`parse`], pure and total), POSIX regular expressions, cutting the
//! input into lines, the log directories as s6-log rotates them, processors, alerts, status files,
//! and the loop ([`run`]).
//!
//! *Does not live here:* the command line (`gatevisor-applets`), and the log daemon, which needs
//! none of this unless a slot's `log/run` is such a script.
//!
//! **Source:** <https://skarnet.org/software/s6/s6-log.html>; intended differences are listed in
//! `docs/reference/applets.md`.

mod action_output;
mod cutter;
mod directory;
mod engine;
mod ere;
mod parser;
mod pattern;
mod processor;
mod selection;

pub use engine::{S6LogError, S6LogOptions, run};
pub use parser::{
    Destination, LogdirSpec, Processor, Script, ScriptAction, ScriptError, ScriptStep, Selection, parse,
};
pub use pattern::Pattern;
