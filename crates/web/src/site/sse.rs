//! Streams of messages to a browser (server-sent events).
//!
//! *Lives here:* the bytes of a message, and the body of such an answer.
//!
//! **Source:** HTML Living Standard, section 9.2.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The time between two comments, which are sent so that a client that has gone is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// A future that is ready when a stream must end.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns the bytes of a message. `data` becomes one line.
pub fn message(kind: &str, id: Option<&str>, data: &str) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    // In JSON, a line end is never part of a string.
    let data = data.replace(['\n', '\r'], " ");
    Bytes::from(format!("event: {kind}\n{id}data: {data}\n\n"))
}

/// Returns an answer that sends messages as they come, until `over` is ready. `at_end` is called
/// when the answer is dropped.
pub fn response(
    messages: mpsc::Receiver<Bytes>,
    over: Over,
    at_end: impl FnOnce() + Send + 'static,
) -> Response {
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = MessageBody { messages, beat, over, at_end: Some(Box::new(at_end)) };
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // This keeps nginx from holding messages back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct MessageBody {
    messages: mpsc::Receiver<Bytes>,
    beat: Interval,
    over: Over,
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

impl hyper::body::Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The end is checked first, because there may always be another message.
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = self.messages.poll_recv(context) {
            return Poll::Ready(next.map(|message| Ok(Frame::data(message))));
        }
        self.beat.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))))
    }
}

impl Drop for MessageBody {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_whatever_its_data_are() {
        let bytes = message("home", Some("a-1"), "{\"a\":\n\r1}");
        assert_eq!(bytes, "event: home\nid: a-1\ndata: {\"a\":  1}\n\n");
        assert_eq!(message("reset", None, "{}"), "event: reset\ndata: {}\n\n");
    }
}
