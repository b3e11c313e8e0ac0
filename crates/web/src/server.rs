//! The server itself.
//!
//! *Lives here:* connections, and their limits. *Does not live here:* who may ask (`access`), and
//! the answers.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::access::Access;

/// The most connections at once. Further ones wait.
const CONNECTIONS: usize = 64;
/// The time for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The time for a whole connection, and then for the answer that is being sent. So a client that
/// does not read does not keep its place.
const LIMITS: Limits = Limits { whole: Duration::from_mins(1), last: Duration::from_secs(10) };
/// The time before another attempt if no connection can be accepted because descriptors are used
/// up.
const PAUSE: Duration = Duration::from_millis(100);

/// A request for the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsRequest {
    /// The value of the `Accept` header.
    pub accept: String,
}

/// The answer to a request for the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsText {
    /// The value of the `Content-Type` header.
    pub media_type: &'static str,
    /// All metrics, a line each.
    pub text: String,
}

/// Answers one question at a time. The error is a reason for people.
pub type Responder = Arc<dyn Fn(MetricsRequest) -> Result<MetricsText, String> + Send + Sync>;

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address that it should listen at.
        address: SocketAddr,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The system refuses a thread or a descriptor that the server needs.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

/// How long a connection may last.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// After this time, no further request is answered.
    whole: Duration,
    /// After this additional time, the connection is closed.
    last: Duration,
}

#[derive(Clone)]
struct MetricsState {
    access: Access,
    metrics: Responder,
    /// It is held while an answer is being made, so that many simultaneous requests cost no more
    /// than one.
    turn: Arc<Mutex<()>>,
}

/// Serves until the process ends. `on_listening` receives the address; if the port was 0, with the
/// port that the system chose.
///
/// # Errors
/// The address cannot be used, or the system refuses what a server needs.
pub fn serve(
    address: SocketAddr,
    access: Access,
    metrics: Responder,
    on_listening: impl FnOnce(SocketAddr),
) -> Result<Infallible, ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Serve)?;
    let shared = MetricsState { access, metrics, turn: Arc::default() };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Serve)?;
        on_listening(bound);
        Ok(accept_all(listener, routes(shared)).await)
    })
}

fn routes(shared: MetricsState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(shared.clone(), refuse_strangers))
        .with_state(shared)
}

async fn accept_all(listener: tokio::net::TcpListener, routes: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            attend(stream, routes, LIMITS).await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection, within its limits.
async fn attend(stream: TcpStream, routes: Router, limits: Limits) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client that breaks off the connection needs no message about it.
    if timeout(limits.whole, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.last, connection).await;
    }
}

async fn refuse_strangers(State(shared): State<MetricsState>, request: Request, next: Next) -> Response {
    match shared.access.refusal(request.headers()) {
        None => next.run(request).await,
        Some((code, why)) => {
            let mut response = (code, why).into_response();
            if code == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

async fn metrics(State(shared): State<MetricsState>, request: Request) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let question = MetricsRequest { accept: accept.to_owned() };
    let turn = Arc::clone(&shared.turn).lock_owned().await;
    let responder = Arc::clone(&shared.metrics);
    // The client may not wait for the answer. It is made all the same.
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        responder(question)
    });
    match found.await {
        Ok(Ok(MetricsText { media_type, text })) => {
            let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")];
            (headers, Body::from(text)).into_response()
        }
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::*;

    /// No test waits so long.
    const LONG: Duration = Duration::from_mins(1);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn shared(metrics: Responder) -> MetricsState {
        let access = Access::new("127.0.0.1:1".parse().unwrap(), None).unwrap();
        MetricsState { access, metrics, turn: Arc::default() }
    }

    #[test]
    fn an_answer_that_nobody_waits_for_any_more_keeps_its_turn_until_it_is_found() {
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        let may_end = std::sync::Mutex::new(may_end);
        let shared = shared(Arc::new(move |_| {
            begun.send(()).unwrap();
            may_end.lock().unwrap().recv().unwrap();
            Err(String::new())
        }));
        runtime().block_on(async {
            let asked = tokio::spawn(metrics(State(shared.clone()), Request::default()));
            tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
            asked.abort();
            assert!(asked.await.unwrap_err().is_cancelled());
            assert!(shared.turn.try_lock().is_err(), "another answer would be found beside it");
            end.send(()).unwrap();
            drop(timeout(LONG, shared.turn.lock()).await.unwrap());
        });
    }

    #[test]
    fn whoever_does_not_read_the_answer_does_not_keep_a_place() {
        let answer = || MetricsText { media_type: "text/plain", text: "a".repeat(64 << 20) };
        let routes = routes(shared(Arc::new(move |_| Ok(answer()))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let limits = Limits { whole: Duration::from_millis(1), last: Duration::from_millis(1) };
        runtime().block_on(async {
            let stream = TcpStream::from_std(stream).unwrap();
            timeout(LONG, attend(stream, routes, limits)).await.unwrap();
        });
    }
}
