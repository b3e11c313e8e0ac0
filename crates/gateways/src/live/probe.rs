//! *Lives here:* one question to a gateway, over HTTP, a port or a control socket, without waiting
//! for the answer.
//!
//! *Does not live here:* when it is asked, and what a missing answer means.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use gatevisor_liveness::EvidenceKind;
use gatevisor_slot::http::{self, HttpTarget};
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with, sockopt,
};

use serde_json::Value;

use crate::incidents::Evidence;

/// The time in milliseconds after which a missing answer is final.
const ANSWER_MS: u64 = 5_000;
/// The time in milliseconds, and the bytes, after which the rest of an answer is not waited for.
const REST_MS: u64 = 2_000;
const REST: usize = 1 << 20;
/// The bytes of an answer in which its status is looked for.
const ANSWER: usize = 64;
/// The bytes of an answer whose body counts, at the most.
const BODY: usize = 64 << 10;
/// The most names of failing parts that are shown, and the most characters of each.
const NAMES: usize = 8;
const NAME: usize = 60;

/// A question to a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether a port accepts a connection.
    Tcp(Vec<SocketAddr>),
    /// Whether an address answers.
    Http(HttpTarget),
    /// Whether an address answers with success.
    Startup(HttpTarget),
    /// Which parts of the gateway do not work: an address, and the key of a list of names.
    Health(HttpTarget, Option<String>),
    /// Whether a socket accepts a connection and, if something is sent, answers.
    Unix(PathBuf, Option<Vec<u8>>),
    /// Whether a command exits with 0.
    Command(Evidence),
}

impl Question {
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tcp(_) => EvidenceKind::Tcp,
            Self::Http(_) | Self::Startup(_) | Self::Health(..) => EvidenceKind::Http,
            Self::Unix(..) => EvidenceKind::Socket,
            Self::Command(_) => EvidenceKind::Command,
        }
    }

    /// Returns what is asked over HTTP.
    const fn target(&self) -> Option<&HttpTarget> {
        match self {
            Self::Http(target) | Self::Startup(target) | Self::Health(target, _) => Some(target),
            Self::Tcp(_) | Self::Unix(..) | Self::Command(_) => None,
        }
    }

    /// Returns the addresses that may answer.
    fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Tcp(addresses) => addresses,
            other => other.target().map_or(&[], |target| &target.addresses),
        }
    }

    fn sent(&self) -> Option<&[u8]> {
        match self {
            Self::Unix(_, sent) => sent.as_deref(),
            other => other.target().map(|target| &*target.request),
        }
    }
}

/// The result of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeAnswer {
    /// It works.
    Alive,
    /// It works, and reports that not all is well.
    Degraded(String),
    /// It did not answer, for this reason.
    None(String),
}

/// What is known of an answer.
enum Judged {
    /// Its meaning; the connection may carry more of it.
    First(ProbeAnswer),
    /// Its meaning; nothing more comes.
    Over(ProbeAnswer),
}

/// A question that has been asked.
#[derive(Debug)]
pub(super) struct LiveProbe {
    question: Question,
    socket: Option<OwnedFd>,
    is_connected: bool,
    answer: Vec<u8>,
    /// What the answer means, once that is known, and the bytes that have come since.
    judged: Option<(ProbeAnswer, usize)>,
    until_ms: u64,
    /// The index of the address that is asked, if there are several.
    at: usize,
    failed: String,
}

impl LiveProbe {
    /// Asks the question.
    pub fn new(question: Question, now_ms: u64) -> Self {
        let mut probe = Self {
            question,
            socket: None,
            is_connected: false,
            answer: Vec::new(),
            judged: None,
            until_ms: now_ms.saturating_add(ANSWER_MS),
            at: 0,
            failed: "no address".to_owned(),
        };
        probe.connect();
        probe
    }

    /// Returns what was asked.
    pub const fn kind(&self) -> EvidenceKind {
        self.question.kind()
    }

    /// Returns the address that is asked, if any process that has its port could answer.
    pub fn address(&self) -> Option<SocketAddr> {
        self.question.addresses().get(self.at).copied()
    }

    /// Returns when the question is given up.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns the descriptor to poll.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let flags = if self.is_connected { PollFlags::IN } else { PollFlags::OUT };
        self.socket.as_ref().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), flags))
    }

    /// Goes on as far as possible without waiting. Returns the answer if there is one.
    ///
    /// An answer is read to its end first, because a server whose client hangs up in the middle may
    /// complain in the gateway's log.
    pub fn step(&mut self, now_ms: u64) -> Option<ProbeAnswer> {
        if self.judged.is_some() {
            return self.rest(now_ms);
        }
        while self.socket.is_some() {
            match self.try_step() {
                Ok(Some(Judged::Over(answer))) => return Some(answer),
                Ok(Some(Judged::First(answer))) => {
                    self.judged = Some((answer, 0));
                    self.until_ms = self.until_ms.min(now_ms.saturating_add(REST_MS));
                    return self.rest(now_ms);
                }
                Ok(None) if now_ms >= self.until_ms => {
                    let seconds = ANSWER_MS / 1000;
                    return Some(ProbeAnswer::None(format!("{}: no answer for {seconds} s", self.kind())));
                }
                Ok(None) => return None,
                Err(errno) => {
                    self.failed = std::io::Error::from(errno).to_string();
                    self.at = self.at.saturating_add(1);
                    self.connect();
                }
            }
        }
        Some(ProbeAnswer::None(format!("{}: {}", self.kind(), self.failed)))
    }

    /// Reads on, and returns the answer when nothing more comes of it.
    fn rest(&mut self, now_ms: u64) -> Option<ProbeAnswer> {
        let (answer, length) = self.judged.as_mut()?;
        let mut buffer = [0; 4096];
        while let Some(socket) = &self.socket
            && now_ms < self.until_ms
            && *length < REST
        {
            match read(socket, &mut buffer) {
                Ok(0) => break,
                Ok(more) => *length = length.saturating_add(more),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => break,
            }
        }
        Some(answer.clone())
    }

    /// Connects to the next address that can be connected to.
    fn connect(&mut self) {
        self.socket = None;
        self.is_connected = false;
        self.answer.clear();
        while let Some(connected) = self.connected() {
            match connected {
                Ok(socket) => {
                    self.socket = Some(socket);
                    return;
                }
                Err(errno) => {
                    self.failed = std::io::Error::from(errno).to_string();
                    self.at = self.at.saturating_add(1);
                }
            }
        }
    }

    fn connected(&self) -> Option<Result<OwnedFd, Errno>> {
        match &self.question {
            Question::Unix(path, _) => (self.at == 0).then(|| unix(path)),
            other => other.addresses().get(self.at).map(|address| inet(*address)),
        }
    }

    fn try_step(&mut self) -> Result<Option<Judged>, Errno> {
        let Some(socket) = &self.socket else { return Ok(None) };
        if !self.is_connected {
            if !is_writable(socket) {
                return Ok(None);
            }
            sockopt::socket_error(socket)??;
            self.is_connected = true;
            match self.question.sent() {
                // The request is far smaller than any socket buffer, so it goes out whole or not at
                // all.
                Some(sent) => drop(send(socket, sent, SendFlags::NOSIGNAL)?),
                None => return Ok(Some(Judged::Over(ProbeAnswer::Alive))),
            }
        }
        let mut buffer = [0; 4096];
        let length = match read(socket, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other?,
        };
        self.answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let judged = if length == 0 { Judged::Over } else { Judged::First };
        Ok(self.judge(length == 0).map(judged))
    }

    /// Returns the meaning of an answer that is long enough to have one.
    fn judge(&self, is_over: bool) -> Option<ProbeAnswer> {
        let hung_up = || is_over.then(|| ProbeAnswer::None(format!("{}: it hung up", self.kind())));
        let no_http = || ProbeAnswer::None("http: that is no HTTP".to_owned());
        match &self.question {
            Question::Startup(_) => match http::status(&self.answer) {
                Some(200..=299) => Some(ProbeAnswer::Alive),
                Some(status) => Some(ProbeAnswer::None(format!("startup: it answers {status}"))),
                None if self.answer.len() >= ANSWER => Some(no_http()),
                None => hung_up(),
            },
            Question::Health(_, key) => match http::status(&self.answer) {
                Some(status @ 500..) => {
                    let is_whole = is_over || self.answer.len() >= BODY;
                    is_whole.then(|| ProbeAnswer::Degraded(what_fails(status, key.as_deref(), &self.answer)))
                }
                Some(_) => Some(ProbeAnswer::Alive),
                None if self.answer.len() >= ANSWER => Some(no_http()),
                None => hung_up(),
            },
            Question::Http(_) => match http::status(&self.answer) {
                Some(status @ 500..) => Some(ProbeAnswer::Degraded(format!("http: it answers {status}"))),
                Some(_) => Some(ProbeAnswer::Alive),
                None if self.answer.len() >= ANSWER => Some(no_http()),
                None => hung_up(),
            },
            _ if !self.answer.is_empty() => Some(ProbeAnswer::Alive),
            _ => hung_up(),
        }
    }
}

/// Returns which parts do not work, according to an answer with this status: the names in the list
/// with this key, if there are any.
fn what_fails(status: u16, key: Option<&str>, answer: &[u8]) -> String {
    let names = key.and_then(|key| names_in(answer, key)).unwrap_or_default();
    if names.is_empty() { format!("http: it answers {status}") } else { format!("failing: {names}") }
}

/// Returns the names in the list with this key in an answer's JSON object.
fn names_in(answer: &[u8], key: &str) -> Option<String> {
    // The object may be in one chunk, whose length is before it.
    let begin = answer.iter().position(|&byte| byte == b'{')?;
    let end = answer.iter().rposition(|&byte| byte == b'}')?;
    let object: Value = serde_json::from_slice(answer.get(begin..=end)?).ok()?;
    let names = object.get(key)?.as_array()?.iter().filter_map(Value::as_str);
    let shown: Vec<String> = names.take(NAMES).map(|name| name.chars().take(NAME).collect()).collect();
    Some(shown.join(", "))
}

fn is_writable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    let at_once = rustix::event::Timespec::default();
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn inet(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn unix(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    // A socket with a full queue gives AGAIN, which is no answer.
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Asks and waits until there is an answer.
    fn ask(question: Question) -> ProbeAnswer {
        let mut probe = LiveProbe::new(question, 0);
        loop {
            if let Some(answer) = probe.step(0) {
                return answer;
            }
            let mut fds: Vec<_> = probe.poll_fd().into_iter().collect();
            rustix::event::poll(&mut fds, None).unwrap();
        }
    }

    fn http(answer: &'static [u8]) -> ProbeAnswer {
        answered(answer, Question::Http)
    }

    /// Asks somebody who gives this answer, and hangs up.
    fn answered(answer: &'static [u8], question: impl FnOnce(HttpTarget) -> Question) -> ProbeAnswer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/health", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let answer = ask(question(http::parse_url(&url).unwrap()));
        server.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_is_read_to_its_end_so_that_no_server_complains_of_who_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/health", listener.local_addr().unwrap().port());
        let (go_on, told) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            told.recv().unwrap();
            // The first piece after a client has hung up goes out, and the next one fails.
            for _ in 0..3 {
                stream.write_all(b"more").unwrap();
            }
        });
        let mut probe = LiveProbe::new(Question::Http(http::parse_url(&url).unwrap()), 0);
        let poll = |probe: &LiveProbe| {
            let mut fds: Vec<_> = probe.poll_fd().into_iter().collect();
            rustix::event::poll(&mut fds, None).unwrap();
        };
        while probe.judged.is_none() {
            poll(&probe);
            assert_eq!(probe.step(0), None, "it does not wait for the rest");
        }
        go_on.send(()).unwrap();
        let answer = loop {
            poll(&probe);
            if let Some(answer) = probe.step(0) {
                break answer;
            }
        };
        drop(probe);
        assert_eq!(answer, ProbeAnswer::Alive);
        server.join().unwrap();
    }

    #[test]
    fn the_rest_of_an_answer_is_not_waited_for_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/health", listener.local_addr().unwrap().port());
        let mut probe = LiveProbe::new(Question::Http(http::parse_url(&url).unwrap()), 0);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 503 No\r\n\r\n").unwrap();
        while probe.judged.is_none() {
            assert_eq!(probe.step(0), None);
        }
        assert_eq!(probe.until_ms(), REST_MS);
        assert_eq!(probe.step(REST_MS - 1), None);
        assert_eq!(probe.step(REST_MS), Some(ProbeAnswer::Degraded("http: it answers 503".to_owned())));
    }

    #[test]
    fn any_answer_over_http_shows_that_a_gateway_lives() {
        assert_eq!(http(b"HTTP/1.1 200 OK\r\n\r\n"), ProbeAnswer::Alive);
        assert_eq!(http(b"HTTP/1.1 401 No\r\n\r\n"), ProbeAnswer::Alive);
        assert_eq!(
            http(b"HTTP/1.1 503 No\r\n\r\n"),
            ProbeAnswer::Degraded("http: it answers 503".to_owned())
        );
        assert_eq!(http(b""), ProbeAnswer::None("http: it hung up".to_owned()));
        assert_eq!(http(&[b'x'; 200]), ProbeAnswer::None("http: that is no HTTP".to_owned()));
    }

    #[test]
    fn one_that_starts_shows_nothing_before_it_answers_with_success() {
        let ask = |answer| answered(answer, Question::Startup);
        assert_eq!(ask(b"HTTP/1.1 200 OK\r\n\r\n"), ProbeAnswer::Alive);
        let starting = ProbeAnswer::None("startup: it answers 503".to_owned());
        assert_eq!(ask(b"HTTP/1.1 503 No\r\n\r\n{\"status\":\"starting\"}"), starting);
    }

    #[test]
    fn what_does_not_work_is_told_by_its_names() {
        let ask = |answer| answered(answer, |target| Question::Health(target, Some("failing".to_owned())));
        assert_eq!(ask(b"HTTP/1.1 200 OK\r\n\r\n{\"failing\":[]}"), ProbeAnswer::Alive);
        for (body, expected) in [
            (
                &b"HTTP/1.1 503 No\r\n\r\n{\"failing\":[\"telegram\",\"discord\"]}"[..],
                "failing: telegram, discord",
            ),
            (b"HTTP/1.1 503 No\r\n\r\n1f\r\n{\"failing\":[\"telegram\"]}\r\n0\r\n", "failing: telegram"),
            (b"HTTP/1.1 503 No\r\n\r\n{\"failing\":[]}", "http: it answers 503"),
            (b"HTTP/1.1 503 No\r\n\r\n{\"failing\":[\"tele", "http: it answers 503"),
            (b"HTTP/1.1 503 No\r\n\r\n", "http: it answers 503"),
        ] {
            assert_eq!(ask(body), ProbeAnswer::Degraded(expected.to_owned()));
        }
    }

    #[test]
    fn a_server_that_accepts_and_answers_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(ask(Question::Tcp(vec![address])), ProbeAnswer::Alive);
        let url = format!("http://{address}/");
        let mut probe = LiveProbe::new(Question::Http(http::parse_url(&url).unwrap()), 0);
        assert_eq!(probe.step(probe.until_ms() - 1), None);
        assert_eq!(
            probe.step(probe.until_ms()),
            Some(ProbeAnswer::None("http: no answer for 5 s".to_owned()))
        );
        drop(listener);
        let ProbeAnswer::None(why) = ask(Question::Tcp(vec![address])) else { panic!("nobody listens") };
        assert!(why.starts_with("tcp: "), "{why}");
    }

    #[test]
    fn a_control_socket_answers_when_it_is_asked() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control");
        assert!(matches!(ask(Question::Unix(path.clone(), None)), ProbeAnswer::None(_)));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(ask(Question::Unix(path.clone(), None)), ProbeAnswer::Alive);
        let server = std::thread::spawn(move || {
            let mut stream = listener.incoming().nth(1).unwrap().unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 1);
            stream.write_all(b"{}").unwrap();
        });
        assert_eq!(ask(Question::Unix(path, Some(b"?".to_vec()))), ProbeAnswer::Alive);
        server.join().unwrap();
    }
}
