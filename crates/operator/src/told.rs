//! Messages in the log of the operator's container, and errors of the API server.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use gatevisor_term::stream;
use gatevisor_wire::exit::error_chain;
use tokio::time::timeout;

/// Prints an error and its causes on one line.
pub fn say(error: &dyn Error) {
    stream::say(error_chain(error));
}

/// The most characters of a refusal that are reported. The note of an event may have 1024 bytes.
const REFUSAL: usize = 200;
/// The longest time for an answer. A request without a limit could keep its home from being
/// reconciled.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// An error that an API server answered, or why there was no answer.
///
/// The text of kube's error is not used, because it repeats its cause and prints the whole answer.
#[derive(Debug)]
pub enum ServerAnswer {
    /// The error that was answered, or why the server was not reached.
    Error(kube::Error),
    /// There was no answer within this time.
    Late(Duration),
}

impl ServerAnswer {
    /// Returns whether the error is that the namespace is being deleted, so that nothing can be
    /// created in it.
    pub fn is_of_ending_namespace(&self) -> bool {
        let Self::Error(kube::Error::Api(status)) = self else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Returns whether the error is that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Error(kube::Error::Api(status)) if status.code == 404)
    }

    /// Returns whether somebody else has changed the object since.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Error(kube::Error::Api(status)) if status.code == 409)
    }

    /// Returns the reason if the API server refuses a write, and would refuse it again: because of
    /// a right, a quota, a policy or a schema. A conflict, a missing object and too many requests
    /// are no refusals.
    pub fn refusal(&self) -> Option<String> {
        let Self::Error(kube::Error::Api(status)) = self else { return None };
        let is_refused = matches!(status.code, 400..=499) && !matches!(status.code, 404 | 409 | 410 | 429);
        let text = || status.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        (is_refused && !self.is_of_ending_namespace()).then(|| text().take(REFUSAL).collect())
    }
}

/// Waits for an answer, with a time limit.
pub async fn answer<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ServerAnswer> {
    answer_within(ANSWER_WITHIN, asked).await
}

/// Waits for an answer for at most this time.
pub async fn answer_within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ServerAnswer> {
    match timeout(limit, asked).await {
        Ok(done) => done.map_err(ServerAnswer::Error),
        Err(_) => Err(ServerAnswer::Late(limit)),
    }
}

impl From<kube::Error> for ServerAnswer {
    fn from(error: kube::Error) -> Self {
        Self::Error(error)
    }
}

impl fmt::Display for ServerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(kube::Error::Api(status)) => f.write_str(&status.message),
            Self::Error(other) => other.fmt(f),
            Self::Late(limit) => write!(f, "the API server does not answer within {} s", limit.as_secs()),
        }
    }
}

impl Error for ServerAnswer {}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn refused(reason: &str) -> ServerAnswer {
        of_code(403, reason)
    }

    fn of_code(code: u16, reason: &str) -> ServerAnswer {
        let status = json!({
            "status": "Failure", "code": code, "reason": "Forbidden", "message": "services \"a\" is forbidden",
            "details": {"causes": [{"reason": reason, "message": "it ends"}]},
        });
        kube::Error::Api(Box::new(serde_json::from_value::<Status>(status).unwrap())).into()
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_api_server_and_once() {
        assert_eq!(error_chain(&refused("")), "services \"a\" is forbidden");
    }

    #[test]
    fn an_ending_namespace_is_told_from_a_missing_right() {
        assert!(refused("NamespaceTerminating").is_of_ending_namespace());
        assert!(!refused("").is_of_ending_namespace());
    }

    #[test]
    fn a_refusal_is_what_will_be_refused_again() {
        let said = |code| of_code(code, "").refusal();
        for code in [400, 403, 422] {
            assert_eq!(said(code).as_deref(), Some("services \"a\" is forbidden"), "{code}");
        }
        for code in [404, 409, 410, 429, 500, 503] {
            assert_eq!(said(code), None, "{code}");
        }
        assert_eq!(refused("NamespaceTerminating").refusal(), None);
        assert_eq!(ServerAnswer::Late(ANSWER_WITHIN).refusal(), None);
    }

    #[tokio::test]
    async fn an_api_server_that_never_answers_is_not_waited_for() {
        let never = std::future::pending::<Result<(), kube::Error>>();
        let said = answer_within(Duration::from_millis(1), never).await.unwrap_err();
        assert!(matches!(said, ServerAnswer::Late(_)), "{said}");
        assert!(answer(std::future::ready(Ok(()))).await.is_ok());
    }
}
