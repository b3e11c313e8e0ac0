//! The attacks, grouped by their target. The attacks of a module are one group, and share one bed.

pub mod clients;
pub mod control;
pub mod ends;
pub mod events;
pub mod graces;
pub mod homes;
pub mod logs;
pub mod names;
pub mod places;
pub mod processes;
pub mod quantity;
pub mod races;
pub mod refused;
pub mod renamer;
pub mod reports;
pub mod run_file;
pub mod scarcity;
pub mod search;
pub mod small_files;
pub mod supervise;
pub mod terminals;
pub mod trees;
pub mod verbs;
