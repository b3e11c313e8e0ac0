//! Streams of events and of log lines: what is received, and once.

use std::thread;

use serde_json::{Value, json};

use super::{Message, Messages, Server, ready};
use crate::home::Home;

#[test]
fn a_client_that_comes_back_gets_the_events_that_it_has_missed() {
    let (home, _port) = ready();
    let server = Server::start(&home, "");
    let mut first = server.stream("/events", None);
    let view = first.until(|message| message.kind == "home");
    assert!(view.data["gateways"].as_array().unwrap().iter().any(|gateway| gateway["profile"] == "coder"));
    // The server may still be about to subscribe, so events that it need not see come first.
    home.says("gateway restart coder").ok();
    let mut died = None;
    while died.is_none() {
        let message = first.next();
        let is_ready = |gateway: &Value| gateway["profile"] == "coder" && gateway["state"] == "ready";
        if message.data["event"] == "died" {
            died = message.id;
        } else if message.kind == "home"
            && message.data["gateways"].as_array().is_some_and(|all| all.iter().any(is_ready))
        {
            home.says("gateway restart coder").ok();
        }
    }
    let up = first.until_event("coder", "ready");
    drop(first);
    home.says("gateway stop coder").ok();
    let mut again = server.stream("/events", up.id.as_deref());
    let missed = again.until(|message| message.kind != "home");
    assert_eq!((&missed.data["event"], &missed.data["profile"]), (&json!("died"), &json!("coder")));
    again.until_event("coder", "down");
    let mut strange = server.stream("/events", Some("0-1"));
    strange.until(|message| message.kind == "reset");
    // Whoever looks sees what somebody else does.
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| server.api("POST", "/gateways/coder/start", ""));
        let told = again.until(|message| message.kind == "action");
        assert_eq!((&told.data["action"], &told.data["error"]), (&json!("start"), &Value::Null));
        asked.join().unwrap()
    });
    assert_eq!(asked.code, 200, "{asked:?}");
    drop((again, strange));
    server.end();
}

#[test]
fn a_log_is_followed_and_goes_on_where_it_was() {
    let mut home = Home::with_script("seq -f 'line %g' 1 50; exec sleep 1000", &[]);
    home.run(["profile", "create", "coder"]).ok();
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "line 50");
    let server = Server::start(&home, "");
    let lines = server.get("/gateways/coder/log?lines=3&grep=LINE%20%5B0-9%5D%2B%24");
    let texts: Vec<&Value> = lines["lines"].as_array().unwrap().iter().map(|line| &line["text"]).collect();
    assert_eq!(texts, ["line 48", "line 49", "line 50"]);
    let mut followed = server.stream("/gateways/coder/log/stream?lines=50", None);
    let all: Vec<Message> = (0..50).map(|_| followed.until(|message| message.kind == "line")).collect();
    drop(followed);
    for seen in [0, 20, 48] {
        let mut again = server.stream("/gateways/coder/log/stream?lines=50", all[seen].id.as_deref());
        assert_eq!(again.next(), all[seen + 1], "{seen}");
    }
    let mut behind = server.stream("/gateways/coder/log/stream?grep=line&lines=1", all[49].id.as_deref());
    home.says("gateway restart coder").ok();
    let next = behind.next();
    assert_eq!(next.data["text"], "line 1", "{next:?}");
    // Nobody waits for lines that can never match.
    let wrong = server.api("GET", "/gateways/coder/log/stream?grep=%5B", "");
    assert_eq!(wrong.code, 400, "{wrong:?}");
    assert!(wrong.body.contains("regular expression"), "{wrong:?}");
    // Clients that read nothing keep nobody waiting.
    let unread: Vec<Messages> = (0..20).map(|_| server.stream("/gateways/coder/log/stream", None)).collect();
    assert_eq!(server.get("/gateways/coder")["profile"], "coder");
    drop((unread, behind));
    server.end();
}
