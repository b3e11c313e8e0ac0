//! What the routes do, with answers and keys that a test makes.

use std::io;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;

use super::guard::{Hosts, Reachability};
use super::question::{Answer, Answerer, Backend, Keys, Lines, LogPick, NewSession, Role};
use super::question::{SiteQuestion, SiteRefusal};
use super::shared::Site;
use super::{ACTIONS, new_site, routes};

/// No test waits so long.
const LONG: Duration = Duration::from_mins(1);

/// Says that each drain has begun, and ends it when the test says so.
struct SlowDrains {
    begun: Mutex<Sender<()>>,
    end: Mutex<Receiver<()>>,
}

impl Answerer for SlowDrains {
    fn answer(&self, question: SiteQuestion, _: &[String]) -> Answer {
        if matches!(&question, SiteQuestion::Drain(_, request) if !request.cancel) {
            self.begun.lock().unwrap().send(()).unwrap();
            self.end.lock().unwrap().recv().unwrap();
        }
        Ok("{}".to_owned())
    }

    fn follow(&self, _: &str, _: &LogPick) -> Result<Box<dyn Lines>, SiteRefusal> {
        Err(SiteRefusal::new(404, "there is no log"))
    }

    fn acted(&self, _: &str) {}

    fn sample(&self) -> bool {
        false
    }

    fn events(&self, _: &mut dyn FnMut(String)) {}
}

/// Everybody may do everything.
struct OpenDoor;

impl Keys for OpenDoor {
    fn by_token(&self, _: &str) -> Option<Role> {
        Some(Role::Full)
    }

    fn redeem(&self, _: &str) -> Option<Role> {
        None
    }

    fn begin_session(&self, _: Role) -> io::Result<NewSession> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn by_session(&self, _: &str, _: &str) -> Option<Role> {
        None
    }

    fn end_session(&self, _: &str, key: &str) -> bool {
        key == "known"
    }
}

fn site(answerer: Arc<dyn Answerer>) -> Arc<Site> {
    let backend = Backend { answerer, keys: Arc::new(OpenDoor) };
    let hosts = Hosts::new(Reachability::Machine, Vec::new());
    Arc::new(new_site(hosts, String::new(), "c".to_owned(), false, backend))
}

async fn post(routes: Router, path: &'static str, body: &'static str) -> u16 {
    let request = Request::post(format!("/api/v1/gateways/a/{path}"))
        .header("host", "localhost")
        .header("authorization", "Bearer token")
        .body(Body::from(body))
        .unwrap();
    TowerToHyperService::new(routes).call(request).await.unwrap().status().as_u16()
}

#[test]
fn drains_that_take_long_keep_nothing_else_waiting() {
    let (begun, has_begun) = channel();
    let (end, may_end) = channel();
    let answerer = Arc::new(SlowDrains { begun: Mutex::new(begun), end: Mutex::new(may_end) });
    let routes = routes::routes(&site(answerer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let drains: Vec<_> = (0..=ACTIONS).map(|_| tokio::spawn(post(routes.clone(), "drain", ""))).collect();
        let all_begun = move || (0..=ACTIONS).all(|_| has_begun.recv_timeout(LONG).is_ok());
        assert!(tokio::task::spawn_blocking(all_begun).await.unwrap(), "more drains than actions");
        for (path, body) in [("drain", "{\"cancel\": true}"), ("stop", "")] {
            assert_eq!(timeout(LONG, post(routes.clone(), path, body)).await, Ok(200), "{path}");
        }
        for _ in &drains {
            end.send(()).unwrap();
        }
        for drain in drains {
            assert_eq!(timeout(LONG, drain).await.unwrap().unwrap(), 200);
        }
    });
}

/// Answers nothing.
struct Silent;

impl Answerer for Silent {
    fn answer(&self, _: SiteQuestion, _: &[String]) -> Answer {
        Ok("{}".to_owned())
    }

    fn follow(&self, _: &str, _: &LogPick) -> Result<Box<dyn Lines>, SiteRefusal> {
        Err(SiteRefusal::new(404, "there is no log"))
    }

    fn acted(&self, _: &str) {}

    fn sample(&self) -> bool {
        false
    }

    fn events(&self, _: &mut dyn FnMut(String)) {}
}

#[test]
fn only_whoever_ends_a_session_makes_the_streams_look_at_their_keys() {
    let site = site(Arc::new(Silent));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (key, wakes) in [("", false), ("other", false), ("known", true)] {
            let mut woken = pin!(site.ended.notified());
            woken.as_mut().enable();
            let request = Request::post("/api/v1/logout")
                .header("host", "localhost")
                .header("cookie", "c=secret")
                .header("x-gatevisor-key", key)
                .body(Body::empty())
                .unwrap();
            let routes = TowerToHyperService::new(routes::routes(&site));
            assert_eq!(routes.call(request).await.unwrap().status().as_u16(), 200);
            assert_eq!(timeout(Duration::ZERO, woken).await.is_ok(), wakes, "{key}");
        }
    });
}
