//! Errors in words.
//!
//! *Lives here:* how a failure reads on one line. *Does not live here:* what is said about it.

use std::error::Error;

use gatevisor_term::stream;

/// Returns an error and its causes as one text, without the system's numbers.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        let words = error.to_string();
        text.push_str(words.rfind(" (os error ").and_then(|end| words.get(..end)).unwrap_or(&words));
        next = error.source();
    }
    text
}

/// Writes a line for a person to standard error, best effort, before there is a console or without one.
pub(crate) fn say(line: &str) {
    stream::say(line);
}
