//! The operator's own health and metrics, over HTTP.
//!
//! *Lives here:* the counters, their text, and the server. *Does not live here:* counting
//! (`reconcile`, `looks`).
//!
//! Nothing here is a secret: there are no names of homes in it.
//!
//! **Source:** Prometheus, *Text-based format*.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// The longest time for a connection, which has one request.
const CONNECTION_WITHIN: Duration = Duration::from_secs(5);
/// The most connections at once. A further one ends the oldest, so that nobody who sends nothing
/// keeps the kubelet waiting.
const CONNECTIONS: usize = 16;
/// The time before the next connection is accepted after an error, such as of too many files.
const PAUSE: Duration = Duration::from_secs(1);

/// What the operator has done since it started.
#[derive(Debug, Default)]
pub struct OperatorCounts {
    /// 1 if it holds the lease, and so acts.
    pub leads: AtomicU64,
    /// How many homes there are.
    pub homes: AtomicU64,
    /// Reconciliations that have ended well.
    pub reconciled: AtomicU64,
    /// Reconciliations that have failed, and are tried again.
    pub failed: AtomicU64,
    /// Looks at pods that have answered.
    pub answered: AtomicU64,
    /// Looks that have found out nothing.
    pub unanswered: AtomicU64,
}

impl OperatorCounts {
    /// Counts one more.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all of them in the text format of Prometheus.
    fn text(&self) -> String {
        let all = [
            ("leads", "gauge", "Whether this operator holds the lease and acts", &self.leads),
            ("homes", "gauge", "Homes that this operator knows", &self.homes),
            ("reconciliations_total", "counter", "Reconciliations that have ended well", &self.reconciled),
            (
                "reconciliation_failures_total",
                "counter",
                "Reconciliations that failed and are tried again",
                &self.failed,
            ),
            ("looks_total", "counter", "Looks at pods that have answered", &self.answered),
            ("look_failures_total", "counter", "Looks at pods that found out nothing", &self.unanswered),
        ];
        let mut text = String::new();
        for (name, kind, help, counter) in all {
            let name = format!("gatevisor_operator_{name}");
            let value = counter.load(Ordering::Relaxed);
            let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        text
    }
}

/// Serves `/healthz` and `/metrics` until it is dropped.
pub async fn serve(listener: TcpListener, counts: Arc<OperatorCounts>) -> Infallible {
    let (mut open, mut oldest_first) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    oldest_first.retain(|connection| !connection.is_finished());
                    if oldest_first.len() >= CONNECTIONS && let Some(oldest) = oldest_first.pop_front() {
                        oldest.abort();
                    }
                    oldest_first.push_back(open.spawn(connection(stream, Arc::clone(&counts))));
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// Listens at an address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at `{address}`; choose another port with --port")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Answers one request.
async fn connection(stream: TcpStream, counts: Arc<OperatorCounts>) {
    let answer = |request: Request<Incoming>| {
        let response = response(request.uri().path(), &counts);
        async move { Ok::<_, Infallible>(response) }
    };
    let served =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service_fn(answer));
    // A client that goes away or is slow concerns nobody.
    let _ = timeout(CONNECTION_WITHIN, pin!(served)).await;
}

fn response(path: &str, counts: &OperatorCounts) -> Response<String> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/metrics" => (StatusCode::OK, counts.text()),
        _ => (StatusCode::NOT_FOUND, "ask for /healthz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::net::{self, Ipv4Addr};

    use tokio::task::spawn_blocking;

    use super::*;

    async fn ask(address: SocketAddr, path: &'static str) -> String {
        let asked = move || {
            let mut stream = net::TcpStream::connect(address).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        spawn_blocking(asked).await.unwrap()
    }

    #[tokio::test]
    async fn health_and_metrics_are_answered_also_beside_many_clients_that_say_nothing() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(OperatorCounts::default());
        OperatorCounts::add(&counts.reconciled);
        let asked = async {
            let mut silent = Vec::new();
            for _ in 0..10 * CONNECTIONS {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let health = ask(address, "/healthz").await;
            assert!(
                health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok\n"),
                "{health}"
            );
            let metrics = ask(address, "/metrics").await;
            let line = "# TYPE gatevisor_operator_reconciliations_total counter\n\
                        gatevisor_operator_reconciliations_total 1\n";
            assert!(metrics.contains(line), "{metrics}");
            assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404 "));
        };
        tokio::select! {
            () = asked => {}
            never = serve(listener, Arc::clone(&counts)) => match never {},
        }
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_told() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = listen(address).await.unwrap_err().to_string();
        assert_eq!(said, format!("cannot listen at `{address}`; choose another port with --port"));
    }
}
