//! The page and its API over HTTP: who may ask, what is answered, and what is done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Instant;
use std::{fs, thread};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::home::Home;
use crate::support::WAIT_LIMIT;
use crate::support::running::Running;

/// What the server says to one request.
#[derive(Debug)]
struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads the head of an answer.
fn head(stream: &mut impl BufRead) -> Answer {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let status = line();
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line().split_once(": ") {
        headers.insert(name.to_owned(), value.to_owned());
    }
    Answer { code: code.unwrap_or_else(|| panic!("no answer: {status}")), headers, body: String::new() }
}

/// A server, and what programs show it.
struct Server {
    running: Running,
    address: String,
    token: String,
}

impl Server {
    fn start(home: &Home, options: &str) -> Self {
        let line = format!("web --listen 127.0.0.1:0 {options}");
        let running = home.start(line.split_whitespace());
        let said = running.until_warns("/\n");
        Self::at(home, running, said.split_once("http://").unwrap().1)
    }

    /// Starts one in a home that has no tokens yet, and returns its link, too.
    fn first(home: &Home) -> (Self, String) {
        let running = home.start(["web", "--listen", "127.0.0.1:0"]);
        let said = running.until_warns("token-read-only`\n");
        let server = Self::at(home, running, said.split_once("http://").unwrap().1);
        (server, said.split_once("#token=").unwrap().1.lines().next().unwrap().to_owned())
    }

    fn at(home: &Home, running: Running, address: &str) -> Self {
        let token = fs::read_to_string(home.path().join(".gatevisor-web/token")).unwrap();
        let address = address.split_once('/').unwrap().0.to_owned();
        Self { running, address, token: token.trim_end().to_owned() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        stream
    }

    /// Sends a request with these headers, and returns the answer.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = BufReader::new(self.connect());
        let (host, length) = (&self.address, body.len());
        let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {host}\r\n") };
        let head_text = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n");
        let request = format!("{head_text}Content-Length: {length}\r\n{headers}\r\n{body}");
        // A server that refuses a long request need not read it.
        let _ = stream.get_mut().write_all(request.as_bytes());
        let mut answer = head(&mut stream);
        let _ = stream.read_to_string(&mut answer.body);
        answer
    }

    /// Sends a request with the token for everything.
    fn api(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, &format!("/api/v1{path}"), &bearer(&self.token), body)
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.api("GET", path, "");
        assert_eq!(answer.code, 200, "{path}: {answer:?}");
        answer.json()
    }

    fn login(&self, token: &str) -> Answer {
        self.ask("POST", "/api/v1/login", "", &json!({ "token": token }).to_string())
    }

    /// Opens a stream of messages.
    fn stream(&self, path: &str, last: Option<&str>) -> Messages {
        let mut stream = BufReader::new(self.connect());
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let (host, bearer) = (&self.address, bearer(&self.token));
        let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: {host}\r\n{bearer}{last}\r\n");
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let head = head(&mut stream);
        let kind = head.headers.get("content-type").map(String::as_str);
        assert_eq!((head.code, kind), (200, Some("text/event-stream")), "{head:?}");
        Messages { stream }
    }

    fn end(self) {
        self.running.signal(Signal::TERM);
        assert_eq!(self.running.ended(WAIT_LIMIT).code, None, "a signal ends it");
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    kind: String,
    id: Option<String>,
    data: Value,
}

impl Message {
    /// Returns whether a field of its data is this text.
    fn is(&self, field: &str, text: &str) -> bool {
        self.data.get(field).is_some_and(|value| value == text)
    }
}

/// A stream of messages.
struct Messages {
    stream: BufReader<TcpStream>,
}

impl Messages {
    /// Returns the next message.
    fn next(&mut self) -> Message {
        let mut fields = BTreeMap::new();
        let begun = Instant::now();
        loop {
            let mut line = String::new();
            // A stream without messages is not silent.
            assert!(begun.elapsed() < WAIT_LIMIT, "no message came");
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the stream has ended");
            // Lines of a chunk's length have no colon, and a message that says nothing no name.
            match line.trim_end().split_once(": ") {
                Some((name, value)) => drop(fields.insert(name.to_owned(), value.to_owned())),
                None if line == "\n" && fields.contains_key("data") => break,
                None => {}
            }
        }
        let data = serde_json::from_str(fields.get("data").unwrap()).unwrap();
        Message { kind: fields.get("event").unwrap().clone(), id: fields.get("id").cloned(), data }
    }

    /// Returns the next message that is so.
    fn until(&mut self, is: impl Fn(&Message) -> bool) -> Message {
        std::iter::repeat_with(|| self.next()).find(|message| is(message)).unwrap()
    }

    fn until_event(&mut self, profile: &str, event: &str) -> Message {
        self.until(|message| message.is("profile", profile) && message.is("event", event))
    }
}

/// Returns a home with a gateway that is ready.
fn ready() -> (Home, crate::home::Port) {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_state("coder", "ready");
    (home, port)
}

#[test]
fn a_link_logs_one_browser_in_and_what_it_does_must_come_from_the_page() {
    let home = Home::new();
    home.run(["profile", "create", "coder"]).ok();
    let (server, link) = Server::first(&home);
    for name in ["", "token", "token-read-only"] {
        let mode = fs::metadata(home.path().join(".gatevisor-web").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let answer = server.login(&link);
    assert_eq!((answer.code, answer.json()), (200, json!({ "role": "full" })), "{answer:?}");
    let cookie = &answer.headers["set-cookie"];
    for part in ["; Path=/;", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(server.login(&link).code, 401, "it is used up");
    let cookie = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(server.ask("GET", "/api/v1/home", &cookie, "").code, 200);
    let origin = |origin: &str| format!("{cookie}Origin: {origin}\r\n");
    let stop = |headers: &str| server.ask("POST", "/api/v1/gateways/nobody/stop", headers, "").code;
    let page = format!("http://{}", server.address);
    assert_eq!(stop(&cookie), 403, "a browser says where a request comes from");
    assert_eq!(stop(&format!("{cookie}Sec-Fetch-Site: cross-site\r\n")), 403);
    for foreign in ["http://evil.example", "null", &format!("{page}0"), "http://localhost"] {
        assert_eq!(stop(&origin(foreign)), 403, "{foreign}");
    }
    assert_eq!(stop(&origin(&page)), 404, "there is no such profile");
    let later = home.says("web --link --read-only").ok();
    let (address, link) = later.trim_end().split_once("/#token=").unwrap();
    assert_eq!(address, page);
    assert_eq!(server.login(link).json(), json!({ "role": "read-only" }));
    assert_eq!(server.ask("POST", "/api/v1/logout", &origin(&page), "").code, 200);
    assert_eq!(server.ask("GET", "/api/v1/home", &cookie, "").code, 401);
    server.end();
}

#[test]
fn whoever_may_not_ask_is_refused_and_the_right_token_is_always_accepted() {
    let home = Home::new();
    let (server, _) = Server::first(&home);
    let get = |headers: &str| server.ask("GET", "/api/v1/session", headers, "");
    let refused = get("");
    assert_eq!((refused.code, &*refused.headers["www-authenticate"]), (401, "Bearer"), "{refused:?}");
    for host in ["evil.example", "evil.example:80", "192.0.2.1", ""] {
        let headers = format!("Host: {host}\r\n{}", bearer(&server.token));
        assert_eq!(get(&headers).code, 403, "{host}");
    }
    let codes: Vec<u16> = (0..12).map(|_| get(&bearer("0123456789abcdef")).code).collect();
    assert_eq!(codes[0], 401);
    assert!(codes.contains(&429), "{codes:?}");
    let right = get(&bearer(&server.token));
    assert_eq!((right.code, right.json()), (200, json!({ "role": "full" })), "{right:?}");
    for (header, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(right.headers[header], value);
    }
    let page = server.ask("GET", "/", "", "");
    let policy = &page.headers["content-security-policy"];
    assert!(
        page.code == 200 && policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{page:?}"
    );
    let read_only = fs::read_to_string(home.path().join(".gatevisor-web/token-read-only")).unwrap();
    let read_only = bearer(read_only.trim_end());
    assert_eq!(get(&read_only).json(), json!({ "role": "read-only" }));
    for (method, path) in
        [("POST", "/gateways/default/stop"), ("DELETE", "/profiles/a"), ("POST", "/profiles")]
    {
        assert_eq!(server.ask(method, &format!("/api/v1{path}"), &read_only, "").code, 403, "{path}");
    }
    assert_eq!(server.api("POST", "/profiles", &"a".repeat(10 << 20)).code, 413);
    assert_eq!(server.api("POST", "/profiles", "{\"name\": \"a\", \"strange\": 1}").code, 400);
    assert_eq!(server.api("GET", "/nothing", "").code, 404);
    home.says("web --revoke").ok();
    assert_ne!(get(&bearer(&server.token)).code, 200);
    server.end();
    let looking = Server::start(&home, "--read-only --base-path /agents/ --allowed-host agents.example");
    let at = |path: &str, host: &str| {
        let headers = format!("Host: {host}\r\n{}", bearer(&looking.token));
        looking.ask("GET", path, &headers, "")
    };
    assert_eq!(at("/agents/api/v1/session", "agents.example").json(), json!({ "role": "read-only" }));
    assert_eq!(at("/agents", "agents.example").headers["location"], "/agents/");
    assert_eq!(at("/api/v1/session", "agents.example").code, 404);
    assert_eq!(at("/agents/api/v1/session", "other.example").code, 403);
    let stop = looking.ask("POST", "/agents/api/v1/gateways/a/stop", &bearer(&looking.token), "");
    assert_eq!(stop.code, 403);
    looking.end();
}

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
    let again = server.api("POST", "/profiles", "{\"name\": \"writer\"}");
    assert!(again.code == 409 && again.body.contains("writer"), "{again:?}");
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
    server.end();
}

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
    // Clients that read nothing keep nobody waiting.
    let unread: Vec<Messages> = (0..20).map(|_| server.stream("/gateways/coder/log/stream", None)).collect();
    assert_eq!(server.get("/gateways/coder")["profile"], "coder");
    drop((unread, behind));
    server.end();
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

/// Returns whether a value has the shape that the document gives, as far as it is used there.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return fits(document, target, value);
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
    assert_eq!(seen, 23);
    server.end();
}
