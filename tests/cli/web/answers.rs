//! What is answered and done over HTTP, at an address and at a socket.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use gatevisor_gateways::declared::VARIABLE;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Server, ready};
use crate::home::{Home, until_entries};
use crate::support::{WAIT_LIMIT, waiting};

#[test]
fn what_is_done_over_http_is_done_and_recorded() {
    let (home, _port) = ready();
    let server = Server::start(&home, "");
    let done = server.api("POST", "/gateways/coder/stop", "{\"reason\": \"for a test\"}");
    assert_eq!((done.code, &done.json()["ok"]), (200, &json!(true)), "{done:?}");
    let state = home.state("coder");
    assert_eq!(state["desired_by"]["command"], "web: gateway stop");
    assert_eq!(state["desired_reason"], "for a test");
    assert_eq!(server.get("/gateways/coder")["state"], "down");
    let made = server.api("POST", "/profiles", "{\"name\": \"writer\", \"env\": \"SECRET=of writer\"}");
    assert_eq!(made.code, 200, "{made:?}");
    let variables = fs::read_to_string(home.profile_dir("writer").join(".env")).unwrap();
    assert!(variables.contains("of writer"), "{variables}");
    for there in ["writer", "default"] {
        let again = server.api("POST", "/profiles", &json!({ "name": there }).to_string());
        assert!(again.code == 409 && again.body.contains(there), "{again:?}");
    }
    let root = server.api("DELETE", "/profiles/default", "");
    assert!(root.code == 409 && root.body.contains("the home itself"), "{root:?}");
    for strange in ["*", "--all", "../coder", ""] {
        let body = json!({ "name": strange }).to_string();
        assert_eq!(server.api("POST", "/profiles", &body).code, 400, "{strange}");
    }
    for path in ["*", "--all", "%2e%2e", "co%2A"] {
        assert_eq!(server.api("POST", &format!("/gateways/{path}/start"), "").code, 404, "{path}");
    }
    assert_eq!(server.api("DELETE", "/profiles/writer", "").code, 200);
    assert_eq!(server.api("DELETE", "/profiles/writer", "").code, 404);
    assert!(!home.profile_dir("writer").exists());
    let told = server.get("/timeline");
    let told = told["entries"].as_array().unwrap();
    let has =
        |kind: &str, what: &str| told.iter().any(|entry| entry["kind"] == kind && entry["what"] == what);
    assert!(has("desired", "shall be stopped") && has("action", "delete: done"), "{told:?}");
    // The page is told of a start, which no request for one is.
    server.api("POST", "/gateways/coder/start", "");
    let told = waiting::polled("an event in the timeline", || {
        let told = server.get("/timeline")["entries"].as_array().unwrap().clone();
        told.iter().any(|entry| entry["kind"] == "event").then_some(told)
    });
    server.end();
    // Another server tells the same, also where a crash has left a part of a line.
    let file = home.path().join(".gatevisor-web/history/events");
    fs::File::options().append(true).open(file).unwrap().write_all(b"{\"at_ms\":1").unwrap();
    let again = Server::start(&home, "");
    let entries = again.get("/timeline")["entries"].clone();
    for kind in ["action", "event"] {
        let of_kind = |all: &[Value]| -> Vec<Value> {
            all.iter().filter(|entry| entry["kind"] == kind).cloned().collect()
        };
        let (before, after) = (of_kind(&told), of_kind(entries.as_array().unwrap()));
        assert!(!before.is_empty(), "{kind}: {told:?}");
        assert!(before.iter().all(|entry| after.contains(entry)), "{before:?} {after:?}");
    }
    again.end();
}

#[test]
fn at_a_socket_only_its_owner_is_answered_and_an_old_one_is_replaced() {
    let home = Home::new();
    let socket = home.beside("web.socket");
    for _ in 0..2 {
        let running = home.start(["web", "--socket", socket.to_str().unwrap()]);
        running.until_warns("the page is at the socket");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream
            .write_all(b"GET /api/v1/home HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let second = home.run(["web", "--socket", socket.to_str().unwrap()]);
        assert!(second.code == Some(111) && second.err.contains("cannot listen"), "{second:?}");
        running.signal(Signal::TERM);
        running.ended(WAIT_LIMIT);
        fs::remove_dir_all(home.path().join(".gatevisor-web")).unwrap();
    }
    fs::remove_file(&socket).unwrap();
}

#[test]
fn how_a_gateway_was_is_recorded_and_what_was_before_is_a_gap() {
    let (home, _port) = ready();
    let server = Server::start(&home, "");
    let directory = home.path().join(".gatevisor-web/history");
    until_entries(&directory, "the history", |names| names.contains("ring"));
    let history = server.get("/gateways/coder/history");
    let states = history["states"].as_array().unwrap();
    assert_eq!((states.len(), &history["step_seconds"]), (288, &json!(300)));
    // A minute may have passed, and with it a step.
    let last = states.iter().rev().take(2).find(|state| !state.is_null());
    assert_eq!(last, Some(&json!("ready")), "{history}");
    assert!(states[..280].iter().all(Value::is_null), "{history}");
    let said = history["summary"].as_str().unwrap();
    assert!(said.starts_with("last 24 hours: ready 100 %, not recorded 23 h"), "{said}");
    let all = server.get("/history");
    let of = |name: &str| all["gateways"].as_array().unwrap().iter().find(|one| one["name"] == name);
    let coder = of("coder").unwrap();
    assert!(coder["kinds"].as_array().unwrap().contains(&json!("good")), "{coder}");
    assert_eq!(server.api("GET", "/gateways/nobody/history", "").code, 404);
    assert_eq!(fs::metadata(directory.join("ring")).unwrap().permissions().mode() & 0o777, 0o600);
    server.end();
}

#[test]
fn up_serves_the_page_until_the_supervisor_ends() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_with(["up", "--quiet", "--web=127.0.0.1:0"]);
    let said = home.running().until_warns("token-read-only`\n");
    let address = said.split_once("the page is at http://").unwrap().1.split_once('/').unwrap().0;
    let token = fs::read_to_string(home.path().join(".gatevisor-web/token")).unwrap();
    home.until_state("coder", "up");
    let asked = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        let token = token.trim_end();
        write!(stream, "GET /api/v1/home HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")?;
        write!(stream, "Authorization: Bearer {token}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap();
    let pid = format!("\"pid\":{}", home.running().pid());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&pid), "{answer}");
    let ended = home.down();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The kernel kills the server when what kept it ends, which `down` has waited for.
    assert!(asked().is_err(), "it goes on");
    for wrong in ["--web=9466", "--web=nowhere", "--web="] {
        assert_eq!(home.run(["up", wrong]).code, Some(100), "{wrong}");
    }
}

/// Returns whether a value has the shape that the document gives, as far as it is used there.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return fits(document, target, value);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let misfits: Vec<_> = either.iter().map(|one| fits(document, one, value)).collect();
        return misfits.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(format!("{value} is none")));
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&kind) {
        return Err(format!("{value} is {kind} and not {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            return Err(format!("`{name}` is missing in {value}"));
        }
    }
    for (name, part) in value.as_object().into_iter().flatten() {
        fits(document, schema["properties"].get(name).unwrap_or(&Value::Null), part)
            .map_err(|why| format!("{name}: {why}"))?;
    }
    value.as_array().into_iter().flatten().try_for_each(|part| fits(document, &schema["items"], part))
}

#[test]
fn every_route_of_the_document_answers_in_the_shape_that_it_says() {
    let (home, _port) = ready();
    let collected = home.says("--json incidents --collect coder").ok();
    let incident: Value = serde_json::from_str(&collected).unwrap();
    let server = Server::start(&home, "");
    let document = server.get("/openapi.json");
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            let filled = path.replace("{name}", "coder").replace("{id}", incident["id"].as_str().unwrap());
            let filled = filled.replace("{file}", "log.txt");
            seen += 1;
            if operation["responses"]["200"]["content"].get("text/event-stream").is_some() {
                drop(server.stream(&filled, None));
                continue;
            }
            let body = match path.as_str() {
                "/login" => json!({ "token": server.token }).to_string(),
                "/profiles" => json!({ "name": "made" }).to_string(),
                _ => String::new(),
            };
            let filled = if method == "delete" { "/profiles/made".to_owned() } else { filled };
            let answer = server.api(&method.to_uppercase(), &filled, &body);
            let response = &operation["responses"][answer.code.to_string()];
            let response = response["$ref"].as_str().map_or(response, |reference| {
                document.pointer(reference.strip_prefix('#').unwrap()).unwrap()
            });
            // What this agent cannot do is said.
            let expected = if path.ends_with("/drain") { 409 } else { 200 };
            assert_eq!(answer.code, expected, "{method} {path}: {answer:?}");
            let schema = &response["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{method} {path} {}", answer.code);
            fits(&document, schema, &answer.json()).unwrap_or_else(|why| panic!("{method} {path}: {why}"));
        }
    }
    assert_eq!(seen, 25);
    server.end();
}

#[test]
fn the_document_names_each_key_of_a_gateway_also_of_a_declared_one_and_of_one_that_nobody_supervises() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let file = home.beside("profiles.toml");
    fs::write(&file, "[[profile]]\nname = \"coder\"\ndesired = \"running\"\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    home.set(VARIABLE, file);
    home.up_quietly();
    home.until_state("coder", "up");
    for is_supervised in [true, false] {
        if !is_supervised {
            home.down();
        }
        let server = Server::start(&home, "");
        let document = server.get("/openapi.json");
        let schema = &document["components"]["schemas"]["Gateway"];
        for (name, is_declared) in [("coder", true), ("default", false)] {
            let said = server.get(&format!("/gateways/{name}"));
            fits(&document, schema, &said).unwrap_or_else(|why| panic!("{name}: {why}"));
            let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(&said), keys(&schema["properties"]), "{name}");
            assert_eq!(said["declared"].is_object(), is_declared, "{said:#}");
        }
        server.end();
    }
}
