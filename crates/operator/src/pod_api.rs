//! Asking the Gatevisor in a pod.
//!
//! *Lives here:* one request, with limits of time and size, because an agent may answer it.
//! *Does not live here:* what the answers mean (`plan`), and when to ask (`looks`).
//!
//! **Source:** docs/guides/web.md, *The API*.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::plan::Unknown;

/// The longest time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The most bytes of an answer. A gateway needs about two thousand.
const ANSWER_BYTES: usize = 2 << 20;
/// The most values of an answer. A gateway needs about two hundred. In memory, a value may take a
/// hundred times the byte that it is in the answer.
const ANSWER_VALUES: usize = 150_000;

/// Answers are parsed one at a time, because each may take as much memory as all of them may.
static PARSING: Mutex<()> = Mutex::new(());

/// Returns what `read` finds in the answer to `GET path`, or why it finds nothing. An answer is
/// kept no longer than that.
pub async fn get<T>(
    address: SocketAddr,
    token: &str,
    path: &str,
    limit: Duration,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, Unknown> {
    let body = timeout(limit.min(ANSWER_WITHIN), ask(address, token, path)).await;
    let body = body.unwrap_or(Err(Unknown::Silent))?;
    let _one = PARSING.lock().unwrap_or_else(PoisonError::into_inner);
    bounded(&body).as_ref().and_then(read).ok_or(Unknown::Strange)
}

/// Returns the value that a text of JSON is, unless it may have too many values.
fn bounded(body: &[u8]) -> Option<Value> {
    // Each value but the first one comes after one of these.
    let values = body.iter().filter(|&byte| b",:[{".contains(byte)).count();
    (values < ANSWER_VALUES).then(|| serde_json::from_slice(body).ok()).flatten()
}

async fn ask(address: SocketAddr, token: &str, path: &str) -> Result<Vec<u8>, Unknown> {
    let stream = TcpStream::connect(address).await.map_err(|_| Unknown::Silent)?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|_| Unknown::Strange)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| Unknown::Silent)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|_| Unknown::Silent)?;
        match response.status() {
            StatusCode::OK => whole(response.into_body()).await,
            // After several wrong tokens, a Gatevisor says that there were too many.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                Err(Unknown::Refuses)
            }
            // It has too much to do now.
            StatusCode::SERVICE_UNAVAILABLE => Err(Unknown::Silent),
            _ => Err(Unknown::Strange),
        }
    };
    // The connection ends when the exchange has dropped its sender. An error of the connection is
    // one of the exchange, too.
    let (answer, _) = join(exchange, pin!(connection)).await;
    answer
}

/// Returns a whole body.
async fn whole(mut body: Incoming) -> Result<Vec<u8>, Unknown> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Unknown::Silent)?.into_data() else { continue };
        if bytes.len() + data.len() > ANSWER_BYTES {
            return Err(Unknown::Strange);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    /// Answers one request with these bytes, and returns what was asked.
    fn server(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            // A client that has seen enough may be gone.
            let _ = stream.write_all(answer);
            String::from_utf8(asked).unwrap()
        };
        (address, thread::spawn(serve))
    }

    async fn all(address: SocketAddr, limit: Duration) -> Result<Value, Unknown> {
        get(address, TOKEN, "/api/v1/gateways", limit, |answer| Some(answer.clone())).await
    }

    #[tokio::test]
    async fn an_answer_is_what_was_sent_and_everything_else_says_why_nobody_knows() {
        for (sent, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}"[..], Ok(serde_json::json!({"a": 1}))),
            (b"HTTP/1.1 200 OK\r\n\r\n[true]", Ok(serde_json::json!([true]))),
            (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", Err(Unknown::Refuses)),
            (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Err(Unknown::Refuses)),
            (b"HTTP/1.1 429 Slower\r\ncontent-length: 0\r\n\r\n", Err(Unknown::Refuses)),
            (b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\n\r\n", Err(Unknown::Strange)),
            (b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n", Err(Unknown::Silent)),
            (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", Err(Unknown::Strange)),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<htm>", Err(Unknown::Strange)),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", Err(Unknown::Silent)),
            (b"", Err(Unknown::Silent)),
            (b"SSH-2.0-nobody\r\n", Err(Unknown::Silent)),
        ] {
            let (address, served) = server(sent);
            let told = all(address, ANSWER_WITHIN).await;
            assert_eq!(told, expected, "{}", String::from_utf8_lossy(sent));
            let asked = served.join().unwrap();
            assert!(asked.starts_with("GET /api/v1/gateways HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
            assert!(asked.contains("authorization: Bearer 0123456789abcdef\r\n"), "{asked}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_pod_that_does_not_answer_or_never_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(20);
        assert_eq!(all(address, limit).await, Err(Unknown::Silent));
        drop(listener);
        assert_eq!(all(address, ANSWER_WITHIN).await, Err(Unknown::Silent), "nobody listens");
    }

    #[tokio::test]
    async fn an_answer_that_would_fill_the_memory_is_none() {
        let many = |part: &str| format!("[{}0]", part.repeat(ANSWER_VALUES)).into_bytes();
        for body in [many("0,"), many("[],"), many("{\"\":0},")] {
            assert_eq!(bounded(&body), None);
        }
        assert_eq!(bounded(b"[0,0]"), Some(serde_json::json!([0, 0])));
        let long = format!("HTTP/1.1 200 OK\r\n\r\n[\"{}\"]", "x".repeat(ANSWER_BYTES));
        let (address, served) = server(long.leak().as_bytes());
        assert_eq!(all(address, ANSWER_WITHIN).await, Err(Unknown::Strange));
        served.join().unwrap();
    }
}
