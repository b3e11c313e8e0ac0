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

/// The most connections at once; others wait.
const CONNECTIONS: usize = 64;
/// The time for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The time for all of a connection, and then for the answer that is under way. So nobody who does
/// not read keeps a place.
const LIMITS: Limits = Limits { whole: Duration::from_mins(1), last: Duration::from_secs(10) };
/// The time before another attempt if no connection can be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsRequest {
    /// The media types that are accepted, as the request says it.
    pub accept: String,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsText {
    /// What the text is, as `Content-Type` has it.
    pub media_type: &'static str,
    /// All metrics, a line each.
    pub text: String,
}

/// Answers one question at a time; an error is a reason for people.
pub type Responder = Arc<dyn Fn(MetricsRequest) -> Result<MetricsText, String> + Send + Sync>;

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody can connect.
    #[error("cannot listen at {address}")]
    Listen {
        /// Where nobody can connect.
        address: SocketAddr,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The server cannot run.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

/// How long a connection may last.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// After this, no other request is answered.
    whole: Duration,
    /// After this much more, the connection is broken off.
    last: Duration,
}

#[derive(Clone)]
struct MetricsState {
    access: Access,
    metrics: Responder,
    /// Held while an answer is being found, so that many who ask at once cost no more than one.
    turn: Arc<Mutex<()>>,
}

/// Serves until the process ends. `on_listening` is told the address, with the port that the system
/// chose if it was to choose one.
///
/// # Errors
/// Nobody can connect to the address, or the system refuses what a server needs.
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

/// Answers what is asked through one connection, as long as that may last.
async fn attend(stream: TcpStream, routes: Router, limits: Limits) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Whoever breaks off the connection knows that.
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
    // Whoever asked may not wait for the answer, which is being found all the same.
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
