//! *Lives here:* one question to a gateway, over HTTP, a port or a control socket, without ever waiting for it.
//!
//! *Does not live here:* when it is asked, and what no answer means.

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

use crate::incidents::Evidence;

/// Milliseconds after which no answer is none.
const ANSWER_MS: u64 = 5_000;
/// Bytes of an answer that are looked at for its status.
const ANSWER: usize = 64;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether a port accepts a connection.
    Tcp(Vec<SocketAddr>),
    /// Whether an address answers.
    Http(HttpTarget),
    /// Whether a socket accepts a connection, and answers if something is sent.
    Unix(PathBuf, Option<Vec<u8>>),
    /// Whether a command says so.
    Command(Evidence),
}

impl Question {
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tcp(_) => EvidenceKind::Tcp,
            Self::Http(_) => EvidenceKind::Http,
            Self::Unix(..) => EvidenceKind::Socket,
            Self::Command(_) => EvidenceKind::Command,
        }
    }

    fn sent(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) | Self::Command(_) => None,
            Self::Http(target) => Some(&target.request),
            Self::Unix(_, sent) => sent.as_deref(),
        }
    }
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It works.
    Alive,
    /// It works, and says that not all is well.
    Degraded(String),
    /// There is none, for this reason.
    None(String),
}

/// A question that has been asked.
#[derive(Debug)]
pub(super) struct LiveProbe {
    question: Question,
    socket: Option<OwnedFd>,
    is_connected: bool,
    answer: Vec<u8>,
    until_ms: u64,
    /// Which of several addresses is asked.
    at: usize,
    failed: String,
}

impl LiveProbe {
    /// Asks.
    pub fn new(question: Question, now_ms: u64) -> Self {
        let mut probe = Self {
            question,
            socket: None,
            is_connected: false,
            answer: Vec::new(),
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

    /// Returns the address that is asked, where whoever has its port answers.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.question {
            Question::Tcp(addresses) => addresses.get(self.at).copied(),
            Question::Http(target) => target.addresses.get(self.at).copied(),
            Question::Unix(..) | Question::Command(_) => None,
        }
    }

    /// Returns when it is given up.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns what is to be polled.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let flags = if self.is_connected { PollFlags::IN } else { PollFlags::OUT };
        self.socket.as_ref().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), flags))
    }

    /// Goes on as far as that is possible now; returns the answer when there is one.
    pub fn step(&mut self, now_ms: u64) -> Option<Answer> {
        while self.socket.is_some() {
            match self.try_step() {
                Ok(Some(answer)) => return Some(answer),
                Ok(None) if now_ms >= self.until_ms => {
                    let seconds = ANSWER_MS / 1000;
                    return Some(Answer::None(format!("{}: no answer for {seconds} s", self.kind())));
                }
                Ok(None) => return None,
                Err(errno) => {
                    self.failed = std::io::Error::from(errno).to_string();
                    self.at = self.at.saturating_add(1);
                    self.connect();
                }
            }
        }
        Some(Answer::None(format!("{}: {}", self.kind(), self.failed)))
    }

    /// Connects to the next address that may be there.
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
            Question::Tcp(addresses) => addresses.get(self.at).map(|address| inet(*address)),
            Question::Http(target) => target.addresses.get(self.at).map(|address| inet(*address)),
            Question::Unix(path, _) => (self.at == 0).then(|| unix(path)),
            Question::Command(_) => None,
        }
    }

    fn try_step(&mut self) -> Result<Option<Answer>, Errno> {
        let Some(socket) = &self.socket else { return Ok(None) };
        if !self.is_connected {
            if !is_writable(socket) {
                return Ok(None);
            }
            sockopt::socket_error(socket)??;
            self.is_connected = true;
            match self.question.sent() {
                // The request is far smaller than any socket buffer, so it goes out whole or not at all.
                Some(sent) => drop(send(socket, sent, SendFlags::NOSIGNAL)?),
                None => return Ok(Some(Answer::Alive)),
            }
        }
        let mut buffer = [0; ANSWER];
        let length = match read(socket, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other?,
        };
        self.answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        Ok(self.judged(length == 0))
    }

    /// Returns what an answer says, if it is long enough to say something.
    fn judged(&self, is_over: bool) -> Option<Answer> {
        let hung_up = || is_over.then(|| Answer::None(format!("{}: it hung up", self.kind())));
        match &self.question {
            Question::Http(_) => match http::status(&self.answer) {
                Some(status @ 500..) => Some(Answer::Degraded(format!("http: it answers {status}"))),
                Some(_) => Some(Answer::Alive),
                None if self.answer.len() >= ANSWER => Some(Answer::None("http: that is no HTTP".to_owned())),
                None => hung_up(),
            },
            _ if !self.answer.is_empty() => Some(Answer::Alive),
            _ => hung_up(),
        }
    }
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
    // A full queue of one that does not accept is AGAIN, which is no answer.
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Asks and waits until there is an answer.
    fn ask(question: Question) -> Answer {
        let mut probe = LiveProbe::new(question, 0);
        loop {
            if let Some(answer) = probe.step(0) {
                return answer;
            }
            let mut fds: Vec<_> = probe.poll_fd().into_iter().collect();
            rustix::event::poll(&mut fds, None).unwrap();
        }
    }

    fn http(answer: &'static [u8]) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/health", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let answer = ask(Question::Http(http::parse_url(&url).unwrap()));
        server.join().unwrap();
        answer
    }

    #[test]
    fn whoever_answers_over_http_lives_whatever_the_answer() {
        assert_eq!(http(b"HTTP/1.1 200 OK\r\n\r\n"), Answer::Alive);
        assert_eq!(http(b"HTTP/1.1 401 No\r\n\r\n"), Answer::Alive);
        assert_eq!(http(b"HTTP/1.1 503 No\r\n\r\n"), Answer::Degraded("http: it answers 503".to_owned()));
        assert_eq!(http(b""), Answer::None("http: it hung up".to_owned()));
        assert_eq!(http(&[b'x'; 200]), Answer::None("http: that is no HTTP".to_owned()));
    }

    #[test]
    fn one_that_accepts_and_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(ask(Question::Tcp(vec![address])), Answer::Alive);
        let url = format!("http://{address}/");
        let mut probe = LiveProbe::new(Question::Http(http::parse_url(&url).unwrap()), 0);
        assert_eq!(probe.step(probe.until_ms() - 1), None);
        assert_eq!(probe.step(probe.until_ms()), Some(Answer::None("http: no answer for 5 s".to_owned())));
        drop(listener);
        let Answer::None(why) = ask(Question::Tcp(vec![address])) else { panic!("nobody listens") };
        assert!(why.starts_with("tcp: "), "{why}");
    }

    #[test]
    fn a_control_socket_answers_when_it_is_asked() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control");
        assert!(matches!(ask(Question::Unix(path.clone(), None)), Answer::None(_)));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(ask(Question::Unix(path.clone(), None)), Answer::Alive);
        let server = std::thread::spawn(move || {
            let mut stream = listener.incoming().nth(1).unwrap().unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 1);
            stream.write_all(b"{}").unwrap();
        });
        assert_eq!(ask(Question::Unix(path, Some(b"?".to_vec()))), Answer::Alive);
        server.join().unwrap();
    }
}
