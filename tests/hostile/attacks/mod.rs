//! The attacks, by what they aim at. Each module is a group and shares one bed.

pub mod control;
pub mod events;
pub mod logs;
pub mod names;
pub mod places;
pub mod processes;
pub mod quantity;
pub mod races;
pub mod renamer;
pub mod run_file;
pub mod scarcity;
pub mod small_files;
pub mod supervise;
pub mod verbs;
