//! The parts of every answer, and what a route is given.
//!
//! *Lives here:* answers in JSON, and saying why there is none.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::question::{LogPick, SiteRefusal};
use super::shared::Site;

/// How long a request waits for its turn.
pub const TURN_TIME: Duration = Duration::from_secs(30);

/// What a route is given.
pub type Shared = State<Arc<Site>>;
/// The name in a path.
pub type Named = Path<String>;

/// What is wrong with a query.
pub type QueryError = axum::extract::rejection::QueryRejection;

/// Returns which lines of a log are asked for.
pub fn picked(query: Result<Query<LogPick>, QueryError>) -> Result<LogPick, SiteRefusal> {
    query.map(|Query(pick)| pick).map_err(|error| SiteRefusal::new(400, error.body_text()))
}

/// Returns the refusal of a request whose turn did not come in time.
pub fn busy() -> SiteRefusal {
    SiteRefusal::new(503, "the server is busy; try again later")
}

/// Runs a function that may block, in a thread for such functions.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SiteRefusal> {
    spawn_blocking(work).await.map_err(|_| SiteRefusal::new(500, "this is a bug of the server"))
}

/// Returns an answer in JSON.
pub fn json_response(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Returns the JSON object that says why there is no answer.
pub fn problem_object(refusal: &SiteRefusal) -> String {
    json!({ "error": refusal.why }).to_string()
}

/// Returns the answer that says why there is none.
pub fn problem(refusal: &SiteRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, problem_object(refusal));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("30"));
    }
    response
}
