//! The routes.
//!
//! *Lives here:* from a request to a question, and from an answer to a response.
//! *Does not live here:* who may ask (`guard`), the answers, and streams (`streams`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{HeaderValue, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::caller::{caller, wrong_token};
use super::large_answer::large_answer;
use super::question::{GatewayAction, LogPick, Role, SiteQuestion, SiteRefusal};
use super::reply::{Named, QueryError, Shared, TURN_TIME, blocking, busy, json_response, picked, problem};
use super::session::{self, ShownKey};
use super::shared::Site;
use super::streams::{events, follow};
use super::{guard, page};

/// The most bytes of a request's body.
const BODY_BYTES: usize = 64 << 10;
/// The time in which a body must arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// The time that an action has before the answer says that it goes on. It is not ended then.
const ACTION_TIME: Duration = Duration::from_mins(2);
/// The document about the API.
const OPENAPI: &str = include_str!("../../page/openapi.json");

/// Returns all routes below the base path.
pub fn routes(site: &Arc<Site>) -> Router {
    let base = site.base.as_str();
    let mut router = Router::new();
    for file in &page::FILES {
        let answer = get(move || async move { file.response() });
        router = router.route(&format!("{base}{}", file.path), answer);
    }
    if !base.is_empty() {
        let to = format!("{base}/");
        let away = get(move || async move { (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]) });
        router = router.route(base, away);
    }
    for (path, route) in api() {
        router = router.route(&format!("{base}/api/v1{path}"), route);
    }
    router
        .fallback(|| async { problem(&SiteRefusal::new(404, "there is nothing at this path")) })
        .layer(middleware::from_fn_with_state(Arc::clone(site), admit))
        .with_state(Arc::clone(site))
}

/// Returns the routes of the API, as the document about it names them.
fn api() -> Vec<(&'static str, MethodRouter<Arc<Site>>)> {
    let of = |question: fn(String) -> SiteQuestion| {
        get(move |site: Shared, Path(name): Named| async move { ask(&site, question(name)).await })
    };
    let plain = |question: SiteQuestion| {
        get(move |site: Shared| {
            let question = question.clone();
            async move { ask(&site, question).await }
        })
    };
    vec![
        ("/session", get(own_role)),
        ("/login", post(login)),
        ("/logout", post(logout)),
        ("/openapi.json", get(|| async { json_response(StatusCode::OK, OPENAPI.to_owned()) })),
        ("/home", plain(SiteQuestion::Home)),
        ("/gateways", plain(SiteQuestion::Gateways)),
        ("/gateways/{name}", of(SiteQuestion::Gateway)),
        ("/gateways/{name}/explain", of(SiteQuestion::Explain)),
        ("/gateways/{name}/history", of(SiteQuestion::History)),
        ("/history", plain(SiteQuestion::Histories)),
        ("/gateways/{name}/log", get(log)),
        ("/gateways/{name}/log/stream", get(follow)),
        ("/gateways/{name}/incidents", of(SiteQuestion::Incidents)),
        ("/gateways/{name}/incidents/{id}", get(incident)),
        ("/gateways/{name}/incidents/{id}/files/{file}", get(incident_file)),
        ("/gateways/{name}/start", control(GatewayAction::Start)),
        ("/gateways/{name}/stop", control(GatewayAction::Stop)),
        ("/gateways/{name}/restart", control(GatewayAction::Restart)),
        ("/gateways/{name}/drain", post(drain)),
        ("/profiles", post(create)),
        ("/profiles/{name}", delete(remove)),
        ("/doctor", plain(SiteQuestion::Doctor)),
        ("/boot-log", plain(SiteQuestion::BootLog)),
        ("/timeline", plain(SiteQuestion::Timeline)),
        ("/events", get(events)),
    ]
}

// --- who may ask --------------------------------------------------------------------------------

async fn admit(State(site): Shared, request: Request, next: Next) -> Response {
    let mut response = match admitted(&site, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => problem(&refusal),
    };
    guard::protect(response.headers_mut());
    response
}

/// Returns a request that may be answered, with its whole body and the role of its caller.
async fn admitted(site: &Arc<Site>, request: Request) -> Result<Request, SiteRefusal> {
    let (method, headers) = (request.method(), request.headers());
    if let Some(why) = site.hosts.refusal(method, headers) {
        return Err(SiteRefusal::new(403, why));
    }
    let path = request.uri().path().strip_prefix(&site.base).unwrap_or_default();
    let route = path.strip_prefix("/api/v1");
    let is_open = matches!(route, None | Some("/login" | "/logout" | "/openapi.json"));
    let mut role = None;
    if !is_open {
        let found = caller(site, headers).await?;
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        let is_by_cookie = matches!(session::shown(headers, &site.cookie), ShownKey::Session(..));
        if changes && is_by_cookie && !guard::is_from_page(headers) {
            return Err(SiteRefusal::new(
                403,
                "a browser says where a request comes from, and this one does not",
            ));
        }
        if changes && (site.read_only || found != Role::Full) {
            return Err(SiteRefusal::new(403, "this is for looking only: nothing can be changed"));
        }
        role = Some(found);
    }
    let (mut parts, body) = request.into_parts();
    let body = match timeout(BODY_TIME, to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return Err(SiteRefusal::new(413, format!("a request has at most {BODY_BYTES} bytes")));
        }
        Err(_) => return Err(SiteRefusal::new(408, "the request did not come in time")),
    };
    parts.extensions.insert(role.unwrap_or(Role::ReadOnly));
    Ok(Request::from_parts(parts, Body::from(body)))
}

async fn own_role(State(site): Shared, Extension(role): Extension<Role>) -> Response {
    json_response(StatusCode::OK, json!({ "role": site.allowed(role).word() }).to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

async fn login(State(site): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let login: Login = match parsed(&body) {
        Ok(login) => login,
        Err(refusal) => return problem(&refusal),
    };
    let (keys, read_only) = (Arc::clone(&site.backend.keys), site.read_only);
    let begun = blocking(move || {
        let is_possible = session::is_possible(&login.token);
        let role = is_possible.then(|| keys.may_begin(&login.token).or_else(|| keys.redeem(&login.token)));
        // The session outlives this server, and another server may allow changes. So a read-only
        // server begins only read-only sessions.
        let role = role.flatten().map(|role| if read_only { Role::ReadOnly } else { role });
        role.map(|role| keys.begin_session(role).map(|session| (role, session)))
    });
    match begun.await {
        Err(refusal) => problem(&refusal),
        Ok(None) => problem(&wrong_token(&site)),
        Ok(Some(Err(error))) => problem(&SiteRefusal::new(500, format!("cannot keep the session: {error}"))),
        Ok(Some(Ok((role, session)))) => {
            let text = json!({ "role": role.word(), "key": session.key }).to_string();
            with_cookie(json_response(StatusCode::OK, text), &site, Some(&session.secret), &headers)
        }
    }
}

async fn logout(State(site): Shared, headers: HeaderMap) -> Response {
    if let ShownKey::Session(secret, key) = session::shown(&headers, &site.cookie) {
        let keys = Arc::clone(&site.backend.keys);
        match blocking(move || keys.end_session(&secret, &key)).await {
            Ok(true) => site.ended.notify_waiters(),
            // There was no such session, so no stream must check its session again.
            Ok(false) => {}
            Err(refusal) => return problem(&refusal),
        }
    }
    with_cookie(json_response(StatusCode::OK, "{}".to_owned()), &site, None, &headers)
}

fn with_cookie(mut response: Response, site: &Site, secret: Option<&str>, headers: &HeaderMap) -> Response {
    let path = format!("{}/", site.base);
    let cookie = session::set_cookie(&site.cookie, secret, &path, guard::is_https(headers));
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

// --- questions ----------------------------------------------------------------------------------

/// Answers a question.
async fn ask(site: &Arc<Site>, question: SiteQuestion) -> Response {
    let turn = match turn(&site.answers).await {
        Ok(turn) => turn,
        Err(refusal) => return problem(&refusal),
    };
    let (answerer, bodies) = (Arc::clone(&site.backend.answerer), Arc::clone(&site.bodies));
    let lately = if question == SiteQuestion::Timeline { site.hub.lately() } else { Vec::new() };
    // The permit stays with the answer until a share of the memory is free for it.
    let found = blocking(move || (answerer.answer(question, &lately), turn));
    match found.await {
        Ok((Ok(text), turn)) => large_answer(text, &bodies, turn).await,
        Ok((Err(refusal), _)) | Err(refusal) => problem(&refusal),
    }
}

/// Carries out an action, also if the client has gone meanwhile. All clients receive an event about
/// it.
async fn act(site: &Arc<Site>, question: SiteQuestion) -> Response {
    // A drain may take an hour, so drains have permits of their own.
    let is_drain = matches!(&question, SiteQuestion::Drain(_, request) if !request.cancel);
    let turn = match turn(if is_drain { &site.drains } else { &site.actions }).await {
        Ok(turn) => turn,
        Err(refusal) => return problem(&refusal),
    };
    let (answerer, hub) = (Arc::clone(&site.backend.answerer), Arc::clone(&site.hub));
    let done = spawn_blocking(move || {
        let _turn = turn;
        let what = question.action().map(|(word, name)| (word, name.to_owned()));
        let answer = answerer.answer(question, &[]);
        if let Some((word, name)) = what {
            let failure = answer.as_ref().err().map(|refusal| refusal.why.as_str());
            let action = json!({
                "at_ms": now_ms(),
                "profile": name,
                "action": word,
                "error": failure,
            });
            let action = action.to_string();
            answerer.acted(&action);
            hub.publish("action", action);
        }
        answer
    });
    match timeout(ACTION_TIME, done).await {
        Ok(Ok(Ok(text))) => json_response(StatusCode::OK, text),
        Ok(Ok(Err(refusal))) => problem(&refusal),
        Ok(Err(_)) => problem(&SiteRefusal::new(500, "this is a bug of the server")),
        Err(_) => json_response(StatusCode::ACCEPTED, json!({ "result": "it goes on" }).to_string()),
    }
}

/// Returns the time, in milliseconds since 1970.
fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

async fn log(site: Shared, Path(name): Named, query: Result<Query<LogPick>, QueryError>) -> Response {
    match picked(query) {
        Ok(pick) => ask(&site, SiteQuestion::Log(name, pick)).await,
        Err(refusal) => problem(&refusal),
    }
}

async fn incident(site: Shared, Path((name, id)): Path<(String, String)>) -> Response {
    ask(&site, SiteQuestion::Incident(name, id)).await
}

async fn incident_file(site: Shared, Path((name, id, file)): Path<(String, String, String)>) -> Response {
    ask(&site, SiteQuestion::IncidentFile(name, id, file)).await
}

fn control(control: GatewayAction) -> MethodRouter<Arc<Site>> {
    post(move |site: Shared, Path(name): Named, body: Bytes| async move {
        match parsed_or_default(&body) {
            Ok(request) => act(&site, SiteQuestion::GatewayAction(control, name, request)).await,
            Err(refusal) => problem(&refusal),
        }
    })
}

async fn drain(site: Shared, Path(name): Named, body: Bytes) -> Response {
    match parsed_or_default(&body) {
        Ok(request) => act(&site, SiteQuestion::Drain(name, request)).await,
        Err(refusal) => problem(&refusal),
    }
}

async fn create(site: Shared, body: Bytes) -> Response {
    match parsed(&body) {
        Ok(profile) => act(&site, SiteQuestion::CreateProfile(profile)).await,
        Err(refusal) => problem(&refusal),
    }
}

async fn remove(site: Shared, Path(name): Named) -> Response {
    act(&site, SiteQuestion::DeleteProfile(name)).await
}

// --- small parts --------------------------------------------------------------------------------

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, SiteRefusal> {
    serde_json::from_slice(body)
        .map_err(|error| SiteRefusal::new(400, format!("the body is not what the document says: {error}")))
}

fn parsed_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, SiteRefusal> {
    if body.is_empty() { Ok(T::default()) } else { parsed(body) }
}

async fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, SiteRefusal> {
    match timeout(TURN_TIME, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(busy()),
    }
}
