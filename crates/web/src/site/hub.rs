//! The events of the home, for all clients.
//!
//! *Lives here:* one list of events with numbers, by which a client continues where it was; bounded
//! queues. If the queue of a client is full, the client is dropped, and nobody waits for it.
//! *Does not live here:* where events come from, and their bytes (`sse`).

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::{Notify, mpsc};

use super::sse;

/// The most clients at once.
pub const CLIENTS: usize = 256;
/// The most messages that a client may be behind.
const QUEUE: usize = 256;
/// The number of events that are kept for clients that come back, and for the timeline. It is less
/// than a queue holds.
const KEPT: usize = 200;

/// The events of the home.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// It is notified when the view should be made anew.
    pub stale: Notify,
}

#[derive(Debug)]
struct State {
    /// It distinguishes the numbers of this process from those of earlier processes.
    epoch: String,
    /// The number of the last event.
    last: u64,
    kept: VecDeque<KeptEvent>,
    /// The last view of the whole home.
    view: Option<Bytes>,
    clients: Vec<mpsc::Sender<Bytes>>,
}

#[derive(Debug)]
struct KeptEvent {
    number: u64,
    message: Bytes,
    object: String,
}

impl Hub {
    /// Returns a hub without clients.
    pub fn new() -> Self {
        let epoch = format!("{:016x}", RandomState::new().build_hasher().finish());
        let state = State { epoch, last: 0, kept: VecDeque::new(), view: None, clients: Vec::new() };
        Self { state: Mutex::new(state), stale: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event, a JSON object, to all clients, and keeps it for a while.
    pub fn publish(&self, kind: &str, object: String) {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let message = sse::message(kind, Some(&format!("{}-{number}", state.epoch)), &object);
        if state.kept.len() == KEPT {
            state.kept.pop_front();
        }
        state.kept.push_back(KeptEvent { number, message: message.clone(), object });
        state.send(&message);
        drop(state);
        self.stale.notify_one();
    }

    /// Tells all clients of now that there is something new to ask for.
    pub fn hint(&self, kind: &str) {
        self.lock().send(&sse::message(kind, None, "{}"));
    }

    /// Sends the present view of the home to all clients, if it has changed.
    pub fn show(&self, view: &str) {
        let message = sse::message("home", None, view);
        let mut state = self.lock();
        if state.view.as_ref() != Some(&message) {
            state.send(&message);
            state.view = Some(message);
        }
    }

    /// Returns the queue of a new client; `None` if there are too many clients. The queue begins
    /// with the events since `since` and the present view.
    pub fn subscribe(&self, since: Option<&str>) -> Option<mpsc::Receiver<Bytes>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        state.clients.retain(|client| !client.is_closed());
        if state.clients.len() >= CLIENTS {
            return None;
        }
        if state.clients.is_empty() {
            // Without clients, nobody has kept the view up to date.
            state.view = None;
        }
        let missed = since.map_or(Missed::Nothing, |since| state.missed(since));
        // Nothing is lost here, because the queue has room for all kept events and the view.
        if let Missed::Events(number) = missed {
            for kept in state.kept.iter().filter(|kept| kept.number > number) {
                let _ = sender.try_send(kept.message.clone());
            }
        } else if let Missed::Unknown = missed {
            let _ = sender.try_send(sse::message("reset", None, "{}"));
        }
        if let Some(view) = &state.view {
            let _ = sender.try_send(view.clone());
        }
        state.clients.push(sender);
        drop(state);
        self.stale.notify_one();
        Some(receiver)
    }

    /// Returns whether there are clients.
    pub fn has_clients(&self) -> bool {
        let mut state = self.lock();
        state.clients.retain(|client| !client.is_closed());
        !state.clients.is_empty()
    }

    /// Returns the kept events, the oldest first.
    pub fn lately(&self) -> Vec<String> {
        self.lock().kept.iter().map(|kept| kept.object.clone()).collect()
    }
}

/// The events that a client has missed.
enum Missed {
    /// Those after this number, all of which are kept.
    Events(u64),
    /// Some that are not kept any more.
    Unknown,
    /// None, because the client is new.
    Nothing,
}

impl State {
    fn send(&mut self, message: &Bytes) {
        self.clients.retain(|client| client.try_send(message.clone()).is_ok());
    }

    fn missed(&self, since: &str) -> Missed {
        let number = since.split_once('-').filter(|(epoch, _)| *epoch == self.epoch);
        let Some(number) = number.and_then(|(_, number)| number.parse::<u64>().ok()) else {
            return Missed::Unknown;
        };
        let oldest = self.kept.front().map_or(self.last, |kept| kept.number - 1);
        if (oldest..=self.last).contains(&number) { Missed::Events(number) } else { Missed::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &mut mpsc::Receiver<Bytes>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(message) = receiver.try_recv() {
            all.push(String::from_utf8(message.to_vec()).unwrap());
        }
        all
    }

    fn id(message: &str) -> &str {
        message.lines().find_map(|line| line.strip_prefix("id: ")).unwrap()
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_has_missed_and_no_more() {
        let hub = Hub::new();
        let mut first = hub.subscribe(None).unwrap();
        for number in 1..=3 {
            hub.publish("event", format!("{{\"n\":{number}}}"));
        }
        let all = received(&mut first);
        assert_eq!(all.len(), 3);
        for (seen, missed) in [(0, 2), (1, 1), (2, 0)] {
            let again = received(&mut hub.subscribe(Some(id(&all[seen]))).unwrap());
            assert_eq!(again, all[all.len() - missed..], "{seen}");
        }
        assert_eq!(received(&mut hub.subscribe(None).unwrap()), [""; 0]);
    }

    #[test]
    fn a_hint_is_for_those_who_look_and_is_no_event_that_somebody_misses() {
        let hub = Hub::new();
        let mut first = hub.subscribe(None).unwrap();
        hub.publish("event", "{}".to_owned());
        let seen = received(&mut first);
        hub.hint("history");
        assert_eq!(received(&mut first), ["event: history\ndata: {}\n\n"]);
        assert_eq!(received(&mut hub.subscribe(Some(id(&seen[0]))).unwrap()), [""; 0]);
    }

    #[test]
    fn a_client_that_missed_more_than_is_known_is_told_so() {
        let hub = Hub::new();
        let mut first = hub.subscribe(None).unwrap();
        hub.publish("event", "{}".to_owned());
        let old = received(&mut first).remove(0);
        for _ in 0..=KEPT {
            hub.publish("event", "{}".to_owned());
        }
        let other = Hub::new();
        other.publish("event", "{}".to_owned());
        for (hub, since) in [(&hub, id(&old)), (&other, id(&old)), (&hub, ""), (&hub, "a-b")] {
            let told = received(&mut hub.subscribe(Some(since)).unwrap());
            assert!(told.len() == 1 && told[0].starts_with("event: reset\n"), "{since}: {told:?}");
        }
    }

    #[test]
    fn a_slow_client_is_dropped_and_nobody_waits_for_it() {
        let hub = Hub::new();
        let mut slow = hub.subscribe(None).unwrap();
        let mut quick = hub.subscribe(None).unwrap();
        let mut seen = 0;
        for _ in 0..QUEUE + 2 {
            hub.publish("event", "{}".to_owned());
            seen += received(&mut quick).len();
        }
        assert_eq!(seen, QUEUE + 2);
        assert_eq!(received(&mut slow).len(), QUEUE);
        assert!(slow.is_closed() && !quick.is_closed());
    }

    #[test]
    fn everybody_sees_how_the_home_is_and_only_what_is_new_of_it() {
        let hub = Hub::new();
        let mut first = hub.subscribe(None).unwrap();
        hub.show("1");
        hub.show("1");
        assert_eq!(received(&mut first), ["event: home\ndata: 1\n\n"]);
        assert_eq!(received(&mut hub.subscribe(None).unwrap()), ["event: home\ndata: 1\n\n"]);
        drop(first);
        assert!(!hub.has_clients());
        let mut late = hub.subscribe(None).unwrap();
        assert_eq!(received(&mut late), [""; 0], "nobody has kept it up to date");
        let others: Vec<_> = (1..CLIENTS).map(|_| hub.subscribe(None).unwrap()).collect();
        assert!(hub.subscribe(None).is_none());
        drop(others);
        assert!(hub.subscribe(None).is_some());
    }
}
