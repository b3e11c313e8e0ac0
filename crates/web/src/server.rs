//! The server itself.
//!
//! *Lives here:* connections, and their limits. *Does not live here:* who may ask (`access`), and
//! the answers.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
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
use tokio::sync::{Mutex, Semaphore};

use crate::access::Access;

/// The most connections at once; others wait.
const CONNECTIONS: usize = 64;
/// The time for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
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

#[derive(Clone)]
struct Shared {
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
    let shared = Shared { access, metrics, turn: Arc::default() };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Serve)?;
        on_listening(bound);
        Ok(accept_all(listener, routes(shared)).await)
    })
}

fn routes(shared: Shared) -> Router {
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
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            // Whoever breaks off the connection knows that.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn refuse_strangers(State(shared): State<Shared>, request: Request, next: Next) -> Response {
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

async fn metrics(State(shared): State<Shared>, request: Request) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let question = MetricsRequest { accept: accept.to_owned() };
    let _turn = shared.turn.lock().await;
    let responder = Arc::clone(&shared.metrics);
    match tokio::task::spawn_blocking(move || responder(question)).await {
        Ok(Ok(MetricsText { media_type, text })) => {
            let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")];
            (headers, Body::from(text)).into_response()
        }
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
