//! The page for operators and its API.
//!
//! *Lives here:* who may ask (`guard`, `session`, `wrong_tokens`), the routes, large answers, the
//! streams of events and log lines. *Does not live here:* the answers and the tokens, which the
//! binary hands in (`question`).

mod caller;
mod connections;
mod guard;
mod hub;
mod large_answer;
mod log_place;
mod page;
mod question;
mod reply;
mod routes;
mod session;
mod shared;
mod sse;
mod streams;
#[cfg(test)]
mod tests;
mod wrong_tokens;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use crate::ServeError;
use connections::{Listener, accept_all};
use guard::{Hosts, Reachability};
use hub::Hub;
use shared::Site;

pub use question::{
    ActionRequest, Answer, Answerer, Backend, DrainRequest, GatewayAction, Keys, Lines, LogPick, NewSession,
    ProfileRequest, Role, SiteQuestion, SiteRefusal, Then,
};
pub use session::{SESSION_SECONDS, same_secret};

/// The view is made anew this often even if nothing happened, because of processor time and memory.
const VIEW_EVERY: Duration = Duration::from_secs(5);
/// The time between two views, so that many events at once cost one view.
const VIEW_PAUSE: Duration = Duration::from_millis(250);
/// The time before events are requested again if no supervisor runs.
const EVENTS_PAUSE: Duration = Duration::from_secs(2);
/// The most questions that are answered at once.
const ANSWERS: usize = 4;
/// The most actions that are carried out at once.
const ACTIONS: usize = 16;
/// The most drains at once. Each may take an hour.
const DRAINS: usize = 64;
/// The most logs that are followed at once.
const FOLLOWED: usize = 32;

/// Where the page can be reached, and what may be done there.
#[derive(Debug)]
pub struct SiteOptions {
    /// The address, unless there is a socket.
    pub listen: SocketAddr,
    /// A listening socket that is used instead of the address.
    pub socket: Option<UnixListener>,
    /// The host names of reverse proxies in front of the page.
    pub allowed_hosts: Vec<String>,
    /// The path of the page, such as `/agents`; empty for the root.
    pub base: String,
    /// Whether callers may only look.
    pub read_only: bool,
}

/// Serves the page until the process ends. `on_listening` receives the address; if the port was 0,
/// with the port that the system chose.
///
/// # Errors
/// The address cannot be used, or the system refuses what a server needs.
pub fn serve_site(
    options: SiteOptions,
    backend: Backend,
    on_listening: impl FnOnce(Option<SocketAddr>),
) -> Result<Infallible, ServeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Serve)?;
    runtime.block_on(async {
        let is_local = options.socket.is_some() || options.listen.ip().is_loopback();
        let (listener, address) = bind(options.socket, options.listen)?;
        let reach = if is_local { Reachability::Machine } else { Reachability::Network };
        // A browser sends the cookies of a host to all its ports, so the name of the cookie has the
        // port.
        let cookie = address.map_or_else(|| "gatevisor".to_owned(), |at| format!("gatevisor-{}", at.port()));
        let (base, read_only) = (options.base, options.read_only);
        let hosts = Hosts::new(reach, options.allowed_hosts);
        let site = Arc::new(new_site(hosts, base, cookie, read_only, backend));
        receive_events(&site).map_err(ServeError::Serve)?;
        tokio::spawn(keep_view(Arc::clone(&site)));
        tokio::spawn(keep_history(Arc::clone(&site)));
        on_listening(address);
        Ok(accept_all(listener, routes::routes(&site)).await)
    })
}

fn new_site(hosts: Hosts, base: String, cookie: String, read_only: bool, backend: Backend) -> Site {
    let places = |number: usize| Arc::new(Semaphore::new(number));
    Site {
        hosts,
        base,
        cookie,
        read_only,
        backend,
        hub: Arc::new(Hub::new()),
        wrong: Mutex::default(),
        answers: places(ANSWERS),
        actions: places(ACTIONS),
        drains: places(DRAINS),
        bodies: places(large_answer::BODIES_KILOBYTES as usize),
        ended: Notify::new(),
        followed: places(FOLLOWED),
    }
}

fn bind(
    socket: Option<UnixListener>,
    address: SocketAddr,
) -> Result<(Listener, Option<SocketAddr>), ServeError> {
    if let Some(socket) = socket {
        let listener = socket
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(socket))
            .map_err(ServeError::Serve)?;
        return Ok((Listener::Unix(listener), None));
    }
    let failed = |source| ServeError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Serve)?;
    Ok((Listener::Tcp(listener), Some(bound)))
}

/// Receives the events of the home for all clients, in a thread of its own.
fn receive_events(site: &Site) -> std::io::Result<()> {
    let (hub, answerer) = (Arc::clone(&site.hub), Arc::clone(&site.backend.answerer));
    let receive = move || {
        loop {
            answerer.events(&mut |event| hub.publish("event", event));
            // Without a supervisor there are no events, so the home may have changed without one.
            hub.stale.notify_one();
            std::thread::park_timeout(EVENTS_PAUSE);
        }
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(receive).map(drop)
}

/// Keeps the view of the home up to date while there are clients.
async fn keep_view(site: Arc<Site>) {
    loop {
        let stale = site.hub.stale.notified();
        if site.hub.has_clients() {
            let _ = timeout(VIEW_EVERY, stale).await;
        } else {
            stale.await;
        }
        if !site.hub.has_clients() {
            continue;
        }
        let answerer = Arc::clone(&site.backend.answerer);
        let found = tokio::task::spawn_blocking(move || answerer.answer(SiteQuestion::Gateways, &[])).await;
        match found {
            Ok(Ok(view)) => site.hub.show(&view),
            Ok(Err(refusal)) => site.hub.show(&reply::problem_object(&refusal)),
            Err(_) => {}
        }
        sleep(VIEW_PAUSE).await;
    }
}

/// Keeps how the gateways are once a minute, whether somebody looks or not.
async fn keep_history(site: Arc<Site>) {
    loop {
        let answerer = Arc::clone(&site.backend.answerer);
        if matches!(tokio::task::spawn_blocking(move || answerer.sample()).await, Ok(true)) {
            site.hub.hint("history");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        sleep(until_next_minute(now)).await;
    }
}

/// Returns the time until the next minute begins. It is never nothing, so that a clock that is set
/// back again and again cannot keep the server busy.
fn until_next_minute(now: Duration) -> Duration {
    let into = now.saturating_sub(Duration::from_mins(now.as_secs() / 60));
    Duration::from_mins(1).saturating_sub(into).max(Duration::from_secs(1))
}
