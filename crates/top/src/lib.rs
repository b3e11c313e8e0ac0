//! `gatevisor top`: what is on the screen, and what keys do.
//!
//! *Lives here:* the state of the view, which turns an input into effects ([`View::handle`]),
//! drawing it ([`draw()`]), the table of keys ([`KEYS`]), and when to look again ([`Schedule`]).
//! All of it is pure: no clock, no file, no process.
//! *Does not live here:* reading gateways and the terminal, and running commands (the binary).
//!
//! *May depend on it:* the binary alone.
#![forbid(unsafe_code)]

mod action;
mod draw;
mod history;
mod keys;
mod pane;
mod row;
mod schedule;
mod table;
mod typing;
mod view;

pub use action::Action;
pub use draw::draw;
pub use history::Sample;
pub use keys::{KEYS, KeyHelp, TopKey};
pub use pane::PaneKind;
pub use row::{Row, Tone};
pub use schedule::{Schedule, Wake};
pub use view::{Effect, Input, Look, View};
