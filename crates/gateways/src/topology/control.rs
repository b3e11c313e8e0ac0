//! *Lives here:* requests to a gateway that serves several profiles, at its control socket.
//!
//! *Does not live here:* deciding when to ask for what (`manager`).
//!
//! The socket belongs to the agent, so every wait for it has a limit, and only an answer that names
//! the profile counts.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_wire::policy::one_line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};
use thiserror::Error;

use crate::agent::ControlDefinition;
use crate::files::read_bounded;
use crate::profile::ProfileName;

/// The longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes of an answer.
const ANSWER_BYTES: usize = 512 << 10;
/// The most bytes of a path.
const PATH_BYTES: usize = 4096;

/// A request to the serving gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlRequest {
    /// Serve a profile.
    Serve,
    /// Serve it no longer.
    Unserve,
}

impl ControlRequest {
    fn verb(self, control: &ControlDefinition) -> Option<&str> {
        match self {
            Self::Serve => control.serve.as_deref(),
            Self::Unserve => control.unserve.as_deref(),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Serve => "served",
            Self::Unserve => "unserved",
        }
    }
}

/// Why a gateway has not confirmed a request.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum RequestError {
    /// It did not answer within this time.
    #[error("its control socket has not answered within {} ms", .0.as_millis())]
    Unanswered(Duration),
    /// It cannot be asked, or its answer says something else.
    #[error("{0}")]
    Other(String),
}

impl From<&str> for RequestError {
    fn from(why: &str) -> Self {
        Self::Other(why.to_owned())
    }
}

/// Asks the gateway of the profile with this home for something about another one. It is given as
/// long as the requester has, and 20 seconds at the most.
///
/// # Errors
/// See [`RequestError`].
pub(crate) fn request(
    home: &Path,
    control: &ControlDefinition,
    what: ControlRequest,
    name: &ProfileName,
    left: Option<Duration>,
) -> Result<(), RequestError> {
    let verb = what.verb(control).ok_or("the agent definition names no such request")?;
    let line = json!({ "verb": verb, "id": 1, "protocol": 1, "params": { "name": name.as_str() } });
    let now = Instant::now();
    let limit = left.map_or(TIMEOUT, |left| left.min(TIMEOUT));
    let until = now.checked_add(limit).unwrap_or(now);
    let answer = exchange(home, control, format!("{line}\n").as_bytes(), until);
    let answer = answer.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => RequestError::Unanswered(limit),
        _ => RequestError::Other(format!("its control socket does not answer: {error}")),
    })?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|_| RequestError::from("its answer is not JSON"))?;
    let result = answer.get("result");
    let names = result.and_then(|result| result.get(what.done())).and_then(Value::as_str);
    let error = result.and_then(|result| result.get("error")).or_else(|| answer.get("error"));
    match error.and_then(Value::as_str) {
        Some(error) => Err(RequestError::Other(one_line(error))),
        None if names == Some(name.as_str()) => Ok(()),
        None => Err("its answer does not say that this is done".into()),
    }
}

fn exchange(home: &Path, control: &ControlDefinition, line: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let opened = open(home, control)?;
    // The socket is named by a descriptor, because an address has no room for a long path, and no
    // link may be followed a second time.
    connect(&stream, &SocketAddrUnix::new(proc_path(&opened))?)?;
    let mut rest = line;
    while !rest.is_empty() {
        match rustix::io::write(&stream, rest) {
            Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            Err(Errno::AGAIN) => wait(&stream, PollFlags::OUT, until)?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    read_line(&stream, until)
}

fn read_line(stream: &OwnedFd, until: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        match rustix::io::read(stream, &mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::AGAIN) => wait(stream, PollFlags::IN, until)?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() > ANSWER_BYTES {
            return Err(io::Error::other("its answer is too long"));
        }
    }
}

fn wait(stream: &OwnedFd, flags: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stream, flags)], Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the socket, or the one that the pointer beside it names.
fn open(home: &Path, control: &ControlDefinition) -> io::Result<OwnedFd> {
    let opened = match by_path::open(home.join(&control.socket), OFlags::PATH) {
        Err(Errno::NOENT) if control.pointer.is_some() => {
            let path = pointed(home, control).ok_or(io::ErrorKind::NotFound)?;
            by_path::open(path, OFlags::PATH)?
        }
        other => other?,
    };
    if FileType::from_raw_mode(fstat(&opened)?.st_mode).is_socket() {
        Ok(opened)
    } else {
        Err(io::Error::other("it is no socket"))
    }
}

fn pointed(home: &Path, control: &ControlDefinition) -> Option<PathBuf> {
    let bytes = read_bounded(&home.join(control.pointer.as_ref()?), PATH_BYTES).ok()??;
    let path = PathBuf::from(str::from_utf8(&bytes).ok()?.trim());
    path.is_absolute().then_some(path)
}

fn proc_path(opened: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn control() -> ControlDefinition {
        let word = |word: &str| Some(word.to_owned());
        let (pointer, serve, unserve) =
            (word("agent.sock.path"), word("serve-profile"), word("drop-profile"));
        ControlDefinition { socket: "agent.sock".to_owned(), pointer, serve, unserve }
    }

    /// Asks a gateway that answers with this, and returns what was asked and what came of it.
    fn asked(home: &Path, socket: &Path, answer: &str) -> (String, Result<(), String>) {
        let listener = UnixListener::bind(socket).unwrap();
        let answer = answer.to_owned();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            line
        });
        let result = request(home, &control(), ControlRequest::Serve, &"coder".parse().unwrap(), None);
        (server.join().unwrap(), result.map_err(|error| error.to_string()))
    }

    #[test]
    fn only_an_answer_that_names_the_profile_counts() {
        for (answer, expected) in [
            (r#"{"ok": true, "result": {"served": "coder"}}"#, Ok(())),
            (r#"{"ok": true, "result": {"served": "writer"}}"#, Err("does not say")),
            (r#"{"ok": true, "result": {"served": "coder", "error": "no\ntoken"}}"#, Err(r"no\ntoken")),
            (r#"{"ok": false, "error": "unknown verb"}"#, Err("unknown verb")),
            ("[]", Err("does not say")),
            ("", Err("not JSON")),
            ("{", Err("not JSON")),
        ] {
            let home = tempfile::tempdir().unwrap();
            let (line, result) = asked(home.path(), &home.path().join("agent.sock"), &format!("{answer}\n"));
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["verb"], &line["params"]["name"]), (&"serve-profile".into(), &"coder".into()));
            match expected {
                Ok(()) => assert_eq!(result, Ok(()), "{answer}"),
                Err(why) => {
                    assert!(result.as_ref().is_err_and(|said| said.contains(why)), "{answer}: {result:?}");
                }
            }
        }
    }

    #[test]
    fn a_socket_that_is_elsewhere_is_found_by_its_pointer_and_anything_else_is_an_error() {
        let (home, short) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ask = || request(home.path(), &control(), ControlRequest::Serve, &"coder".parse().unwrap(), None);
        assert!(ask().is_err(), "there is none");
        let socket = short.path().join("s");
        fs::write(home.path().join("agent.sock.path"), socket.display().to_string()).unwrap();
        assert!(ask().is_err(), "the pointer leads to nothing");
        let (_, result) =
            asked(home.path(), &socket, "{\"ok\": true, \"result\": {\"served\": \"coder\"}}\n");
        assert_eq!(result, Ok(()));
        // Nobody listens any more.
        assert!(ask().is_err());
        fs::write(home.path().join("agent.sock"), "").unwrap();
        assert!(ask().unwrap_err().to_string().contains("no socket"));
    }

    /// Asks, with so much time, a gateway that does this with whoever asks, and returns what is
    /// wrong.
    fn problem_of(left: Option<Duration>, behave: impl Fn(&UnixListener) + Send + 'static) -> String {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("agent.sock")).unwrap();
        // The listener lives until the thread is joined.
        let server = thread::spawn(move || {
            behave(&listener);
            listener
        });
        let name = "coder".parse().unwrap();
        let said = request(home.path(), &control(), ControlRequest::Unserve, &name, left).unwrap_err();
        server.join().unwrap();
        said.to_string()
    }

    #[test]
    fn a_gateway_that_does_not_come_to_the_end_of_its_answer_is_given_up_in_time() {
        let late = "its control socket has not answered within 300 ms";
        let asked_soon = |behave: fn(&UnixListener)| problem_of(Some(Duration::from_millis(300)), behave);
        // The kernel takes the connection in its place, and the request.
        assert_eq!(asked_soon(|_| {}), late);
        let listens = |listener: &UnixListener| {
            let (mut stream, _) = listener.accept().unwrap();
            io::copy(&mut stream, &mut io::sink()).unwrap();
        };
        assert_eq!(asked_soon(listens), late);
        // One that says a little again and again has no more time for that.
        let dribble = |listener: &UnixListener| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            while stream.write_all(b" ").is_ok() {
                let _ = stream.read(&mut [0; 1024]);
            }
        };
        assert_eq!(asked_soon(dribble), late);
    }

    #[test]
    fn a_gateway_that_answers_without_end_or_ends_without_an_answer_is_told_so() {
        let flood = |listener: &UnixListener| {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        };
        let said = problem_of(None, flood);
        assert_eq!(said, "its control socket does not answer: its answer is too long");
        let silent = |listener: &UnixListener| drop(listener.accept().unwrap());
        let said = problem_of(None, silent);
        assert!(said == "its answer is not JSON" || said.contains("does not answer: "), "{said}");
    }
}
