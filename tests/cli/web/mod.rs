//! The page and its API over HTTP: a small client, and what is tested with it: who may ask
//! (`access`), what is answered and done (`answers`), streams of messages (`streams`), and the
//! terminal of root (`own_terminal`).

mod access;
mod answers;
mod own_terminal;
mod streams;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

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
        Self::start_at(home, "127.0.0.1:0", options)
    }

    fn start_at(home: &Home, address: &str, options: &str) -> Self {
        let line = format!("web --listen {address} {options}");
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

    /// Opens a stream of messages with the token for everything.
    fn stream(&self, path: &str, last: Option<&str>) -> Messages {
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        self.stream_with(path, &format!("{}{last}", bearer(&self.token)))
    }

    /// Opens a stream of messages with these headers.
    fn stream_with(&self, path: &str, headers: &str) -> Messages {
        let mut stream = BufReader::new(self.connect());
        let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
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

    /// Reads until the server ends the stream, which it does not at once.
    fn until_end(&mut self) {
        let deadline = Instant::now() + WAIT_LIMIT + WAIT_LIMIT;
        let mut line = String::new();
        while self.stream.read_line(&mut line).unwrap() > 0 && line != "0\r\n" {
            assert!(Instant::now() < deadline, "the stream goes on");
            line.clear();
        }
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
