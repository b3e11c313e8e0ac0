//! The routes whose answers are streams: events, and the lines of a log.
//!
//! *Lives here:* beginning a stream, and ending it when its token or session is no longer valid.
//! *Does not live here:* their bytes (`sse`), and the list of events (`hub`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::caller::caller;
use super::log_place::{LogPlace, LogReader};
use super::question::{LogPick, SiteRefusal};
use super::reply::{Named, QueryError, Shared, blocking, picked, problem};
use super::shared::Site;
use super::sse;

/// The most lines of a log that are waiting to be sent.
const LINES: usize = 32;
/// The time between two checks of the token or session of a stream.
const KEY_TIME: Duration = Duration::from_secs(5);
/// The time after which a stream ends. The client then connects again and identifies itself again.
const STREAM_TIME: Duration = Duration::from_hours(1);

/// Answers with the events of the home, as they happen.
pub async fn events(State(site): Shared, headers: HeaderMap) -> Response {
    match site.hub.subscribe(last_event(&headers)) {
        Some(messages) => sse::response(messages, over(&site, &headers), || ()),
        None => problem(&SiteRefusal::new(503, "too many clients receive events; try again later")),
    }
}

/// Answers with the lines of a log, as they are written.
pub async fn follow(
    State(site): Shared,
    Path(name): Named,
    headers: HeaderMap,
    query: Result<Query<LogPick>, QueryError>,
) -> Response {
    let pick = match picked(query) {
        Ok(pick) => pick,
        Err(refusal) => return problem(&refusal),
    };
    let Ok(place) = Arc::clone(&site.followed).try_acquire_owned() else {
        return problem(&SiteRefusal::new(503, "too many logs are followed; try again later"));
    };
    let place_in_log = last_event(&headers).and_then(LogPlace::parse);
    let pick = place_in_log.as_ref().map_or_else(|| pick.clone(), |place| place.since(&pick));
    let answerer = Arc::clone(&site.backend.answerer);
    let begun = blocking(move || answerer.follow(&name, &pick)).await.and_then(|begun| begun);
    let mut lines = match begun {
        Ok(lines) => lines,
        Err(refusal) => return problem(&refusal),
    };
    let stop = std::sync::Mutex::new(Some(lines.stopper()));
    let (sender, receiver) = mpsc::channel(LINES);
    spawn_blocking(move || {
        let _place = place;
        let mut reader = LogReader::behind(place_in_log);
        while let Ok(Some(line)) = lines.next_line() {
            let Some(id) = reader.pass(&line) else { continue };
            if sender.blocking_send(sse::message("line", Some(&id), &line)).is_err() {
                break;
            }
        }
    });
    sse::response(receiver, over(&site, &headers), move || {
        let stop = stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(stop) = stop {
            stop();
        }
    })
}

/// Waits until a stream must end: its token or session is no longer valid, or an hour has passed.
async fn is_over(site: Arc<Site>, headers: HeaderMap) {
    let until = Instant::now() + STREAM_TIME;
    loop {
        let ended = site.ended.notified();
        if timeout(KEY_TIME, ended).await.is_err() && Instant::now() >= until {
            return;
        }
        if caller(&site, &headers).await.is_err() {
            return;
        }
    }
}

fn over(site: &Arc<Site>, headers: &HeaderMap) -> sse::Over {
    Box::pin(is_over(Arc::clone(site), headers.clone()))
}

fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}
