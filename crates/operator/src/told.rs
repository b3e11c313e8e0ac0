//! What goes to the log of the operator's container.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use gatevisor_term::stream;
use gatevisor_wire::exit::error_chain;
use tokio::time::timeout;

/// Prints an error with its causes on one line.
pub fn say(error: &dyn Error) {
    stream::say(error_chain(error));
}

/// The longest part of a refusal that is told, in characters. A note of an event has 1024 bytes.
const REFUSAL: usize = 200;
/// How long an answer may take. A request that waits for ever would keep its home from all others.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What an API server answered instead of what it was asked for, or why it was not reached.
///
/// kube's own text repeats its cause, and prints the whole answer.
#[derive(Debug)]
pub enum ServerAnswer {
    /// The answer, or why there is none.
    Error(kube::Error),
    /// There was none in this time.
    Late(Duration),
}

impl ServerAnswer {
    /// Returns whether the namespace is being deleted, in which nothing new can be made.
    pub fn is_of_ending_namespace(&self) -> bool {
        let Self::Error(kube::Error::Api(status)) = self else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Returns whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Error(kube::Error::Api(status)) if status.code == 404)
    }

    /// Returns what the API server said if it refuses what it was asked to write, however often it
    /// is asked: by a right, a quota, a policy or a schema. Somebody else who was faster, what has
    /// gone, and too many requests are no refusals.
    pub fn refusal(&self) -> Option<String> {
        let Self::Error(kube::Error::Api(status)) = self else { return None };
        let is_refused = matches!(status.code, 400..=499) && !matches!(status.code, 404 | 409 | 410 | 429);
        let text = || status.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        (is_refused && !self.is_of_ending_namespace()).then(|| text().take(REFUSAL).collect())
    }
}

/// Waits for an answer, but not for ever.
pub async fn answer<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ServerAnswer> {
    answer_within(ANSWER_WITHIN, asked).await
}

/// Waits that long for an answer.
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
