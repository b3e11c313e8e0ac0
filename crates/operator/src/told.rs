//! What goes to the log of the operator's container.

use std::error::Error;
use std::fmt;

use gatevisor_term::stream;
use gatevisor_wire::exit::error_chain;

/// Prints an error with its causes on one line.
pub fn say(error: &dyn Error) {
    stream::say(error_chain(error));
}

/// What an API server answered instead of what it was asked for, or why it was not reached.
///
/// kube's own text repeats its cause, and prints the whole answer.
#[derive(Debug)]
pub struct ServerAnswer(kube::Error);

impl ServerAnswer {
    /// Returns whether the namespace is being deleted, in which nothing new can be made.
    pub fn is_of_ending_namespace(&self) -> bool {
        let kube::Error::Api(status) = &self.0 else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}

impl From<kube::Error> for ServerAnswer {
    fn from(error: kube::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ServerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            kube::Error::Api(status) => f.write_str(&status.message),
            other => other.fmt(f),
        }
    }
}

impl Error for ServerAnswer {}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn answer(reason: &str) -> ServerAnswer {
        let status = json!({
            "status": "Failure", "code": 403, "reason": "Forbidden", "message": "services \"a\" is forbidden",
            "details": {"causes": [{"reason": reason, "message": "it ends"}]},
        });
        kube::Error::Api(Box::new(serde_json::from_value::<Status>(status).unwrap())).into()
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_api_server_and_once() {
        assert_eq!(error_chain(&answer("")), "services \"a\" is forbidden");
    }

    #[test]
    fn an_ending_namespace_is_told_from_a_missing_right() {
        assert!(answer("NamespaceTerminating").is_of_ending_namespace());
        assert!(!answer("").is_of_ending_namespace());
    }
}
