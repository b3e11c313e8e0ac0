//! What an agent leaves behind for the next boot of its container.

use crate::attack::Attack;

pub const ALL: &[Attack] = &[];
