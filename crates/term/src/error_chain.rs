//! An error and its causes on one line.
//!
//! *Lives here:* how a chain of errors reads. *Does not live here:* what is said about it, and writing it.

use std::error::Error;

/// Returns an error and its causes as one text, without the system's numbers.
pub fn chain(error: &dyn Error) -> String {
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
