//! Answers that are so large that only a few may be in memory at once.
//!
//! *Lives here:* the share of the memory that each of them holds until it is sent.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::reply::{TURN_TIME, busy, json_response, problem};

/// An answer with fewer kB needs no share.
const SMALL_KILOBYTES: u32 = 64;
/// The kB of all larger answers together.
pub const BODIES_KILOBYTES: u32 = 64 << 10;

/// Returns a response that holds its share of the memory until it is sent. A client that reads
/// slowly delays at most other large answers.
pub async fn large_answer(text: String, bodies: &Arc<Semaphore>, turn: OwnedSemaphorePermit) -> Response {
    let kilobytes = u32::try_from(text.len() >> 10).unwrap_or(u32::MAX);
    if kilobytes < SMALL_KILOBYTES {
        return json_response(StatusCode::OK, text);
    }
    let places = kilobytes.min(BODIES_KILOBYTES);
    let place = timeout(TURN_TIME, Arc::clone(bodies).acquire_many_owned(places)).await;
    drop(turn);
    match place {
        Ok(Ok(place)) => {
            let held = Held { _place: place, text };
            let body = Body::from(Bytes::from_owner(held));
            (StatusCode::OK, [(CONTENT_TYPE, "application/json")], body).into_response()
        }
        _ => problem(&busy()),
    }
}

/// The text of an answer, with its share of the memory.
struct Held {
    _place: OwnedSemaphorePermit,
    text: String,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_keeps_its_place_until_it_is_sent_and_a_small_one_needs_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (turns, bodies) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(1000)));
            let turn = || Arc::clone(&turns).try_acquire_owned().unwrap();
            let small = large_answer("a".repeat(1 << 10), &bodies, turn()).await;
            assert_eq!(bodies.available_permits(), 1000);
            let large = large_answer("a".repeat(900 << 10), &bodies, turn()).await;
            assert_eq!((bodies.available_permits(), turns.available_permits()), (100, 2));
            let body = axum::body::to_bytes(large.into_body(), usize::MAX).await.unwrap();
            assert_eq!((body.len(), bodies.available_permits()), (900 << 10, 100));
            drop((small, body));
            assert_eq!(bodies.available_permits(), 1000);
        });
    }
}
