//! What goes to the log of the operator's container.

use std::error::Error;

use gatevisor_term::stream;
use gatevisor_wire::exit::error_chain;

/// Prints an error with its causes on one line.
pub fn say(error: &dyn Error) {
    stream::say(error_chain(error));
}
