//! The readiness prober: a separate process that asks a URL until it answers, and then tells the
//! supervisor.
//!
//! *Lives here:* one attempt, and the loop around it. It ends with the service, whatever it is
//! waiting for.
//! *Does not live here:* the decision to probe, the meaning of a URL or an answer, and the owner of
//! an answering socket (`answerer`).

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::tcp::{Socket, Sockets};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect, getsockname, send, socket_with, sockopt,
};

use crate::answerer::Whose;
use crate::http::{self, HttpTarget};

/// Milliseconds after which one attempt is given up.
const ATTEMPT_MS: u64 = 5_000;
/// The usual [`ReadinessProbe::late_interval_ms`].
pub(crate) const LATE_INTERVAL_MS: u64 = 10_000;
/// The bytes of an answer in which its status must be.
const ANSWER: usize = 64;
/// The most milliseconds for reading the rest of an answer, and the most bytes of it.
const REST_MS: u64 = 2_000;
const REST: usize = 1 << 20;

/// The target of the probe, and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadinessProbe {
    pub target: HttpTarget,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// The least milliseconds between two attempts once `timeout_ms` are over.
    pub late_interval_ms: u64,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeWait {
    /// The event happened.
    Happened,
    /// Time ran out.
    TimedOut,
    /// The service is gone, so there is no reason to wait.
    ServiceGone,
}

/// The result of one attempt.
#[derive(Debug)]
enum Attempt {
    /// The answer on this connection means that the service is ready.
    Ready(OwnedFd),
    NotYet,
    /// Something listens, but its answer would not count, for this reason.
    Uncounted(String),
    ServiceGone,
}

/// Tells who owns sockets.
type SocketJudge<'a> = dyn FnMut(&[Socket]) -> Whose + 'a;

impl ReadinessProbe {
    /// Probes until the service answers 200 to 299 on the URL, and then writes a newline to
    /// `notify`.
    ///
    /// Returns whether it did. `service` is a pidfd; when it becomes readable, probing ends at
    /// once. `judge` tells whether the listening sockets are the service's. `tell` receives the
    /// reason why the service is not ready although something answers, or that its time is over.
    /// After that it is asked less often, because it may become ready yet.
    pub fn run(
        &self,
        service: impl AsFd,
        notify: impl AsFd,
        judge: &mut SocketJudge<'_>,
        tell: &mut dyn FnMut(String),
    ) -> bool {
        let service = service.as_fd();
        let end = monotonic_ms().saturating_add(self.timeout_ms);
        let mut is_late = false;
        loop {
            for address in &self.target.addresses {
                let limit = monotonic_ms().saturating_add(ATTEMPT_MS);
                let limit = if is_late { limit } else { limit.min(end) };
                let attempt = attempt(*address, &self.target.request, service, limit, judge);
                match attempt.unwrap_or(Attempt::NotYet) {
                    Attempt::Ready(connection) => {
                        let is_told = write(notify, b"\n").is_ok();
                        read_rest(&connection, service);
                        return is_told;
                    }
                    Attempt::ServiceGone => return false,
                    Attempt::Uncounted(why) => tell(why),
                    Attempt::NotYet => {}
                }
            }
            let now = monotonic_ms();
            if !is_late && now.saturating_add(self.interval_ms) >= end {
                tell(self.too_late());
                is_late = true;
            }
            let least = if is_late { self.late_interval_ms } else { 0 };
            let next = now.saturating_add(self.interval_ms.max(least));
            if wait(service, None, next) != ProbeWait::TimedOut {
                return false;
            }
        }
    }

    fn too_late(&self) -> String {
        let address = self.target.addresses.first().map_or_else(String::new, ToString::to_string);
        let seconds = self.timeout_ms.div_ceil(1000);
        format!(
            "it did not say on {address} within {seconds} s that it is ready, and is asked less often now"
        )
    }
}

/// Returns why an answer of these listeners would not count; `None` if it would.
fn uncounted(address: SocketAddr, sockets: &[Socket], judge: &mut SocketJudge<'_>) -> Option<String> {
    let port = address.port();
    match judge(sockets) {
        Whose::Own => None,
        Whose::Another(who) => Some(format!("port {port} is held by {who}, and not by this service")),
        Whose::Unknown(why) => Some(format!("it cannot be told who answers on port {port}: {why}")),
    }
}

/// Returns the sockets that get a connection to this address; none if they cannot be seen.
fn listeners(address: SocketAddr) -> Vec<Socket> {
    Sockets::now().map(|sockets| sockets.listeners(address)).unwrap_or_default()
}

/// Returns why the answer on this connection does not count; `None` if it does.
///
/// A server may have closed its end by now. Then the socket that listened before, and still does,
/// counts.
fn not_its_own(
    socket: &OwnedFd,
    address: SocketAddr,
    before: &[Socket],
    judge: &mut SocketJudge<'_>,
) -> Option<String> {
    let ours = getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
    let sockets = Sockets::now().unwrap_or_default();
    let other_end = ours.and_then(|ours| sockets.other_end(ours, address)).filter(|end| end.inode != 0);
    match other_end {
        Some(end) => uncounted(address, &[end], judge),
        None if sockets.listeners(address) == before => None,
        None => Some(format!("whoever answered on port {} has gone", address.port())),
    }
}

fn attempt(
    address: SocketAddr,
    request: &[u8],
    service: BorrowedFd<'_>,
    limit: u64,
    judge: &mut SocketJudge<'_>,
) -> Result<Attempt, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => match wait(service, Some((socket.as_fd(), PollFlags::OUT)), limit) {
            ProbeWait::Happened => sockopt::socket_error(&socket)??,
            ProbeWait::TimedOut => return Ok(Attempt::NotYet),
            ProbeWait::ServiceGone => return Ok(Attempt::ServiceGone),
        },
        Err(errno) => return Err(errno),
    }
    let before = listeners(address);
    if let Some(why) = uncounted(address, &before, judge) {
        return Ok(Attempt::Uncounted(why));
    }
    // The request is far smaller than any socket buffer, so it is sent completely or not at all.
    if send(&socket, request, SendFlags::NOSIGNAL)? != request.len() {
        return Ok(Attempt::NotYet);
    }
    let mut answer = [0; ANSWER];
    let mut filled = 0;
    loop {
        if let Some(status) = http::status(answer.get(..filled).unwrap_or_default()) {
            let is_ready = (200..300).contains(&status);
            let counts = is_ready.then(|| not_its_own(&socket, address, &before, judge));
            if counts == Some(None) {
                return Ok(Attempt::Ready(socket));
            }
            read_rest(&socket, service);
            return Ok(counts.flatten().map_or(Attempt::NotYet, Attempt::Uncounted));
        }
        match wait(service, Some((socket.as_fd(), PollFlags::IN)), limit) {
            ProbeWait::Happened => {}
            ProbeWait::TimedOut => return Ok(Attempt::NotYet),
            ProbeWait::ServiceGone => return Ok(Attempt::ServiceGone),
        }
        match read(&socket, answer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => return Ok(Attempt::NotYet),
            Ok(n) => filled = filled.saturating_add(n),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads the rest of an answer, because a server whose client hangs up in the middle may complain
/// in the service's log.
fn read_rest(connection: &OwnedFd, service: BorrowedFd<'_>) {
    let limit = monotonic_ms().saturating_add(REST_MS);
    let (mut buffer, mut rest) = ([0; 4096], REST);
    while rest > 0 && wait(service, Some((connection.as_fd(), PollFlags::IN)), limit) == ProbeWait::Happened {
        match read(connection, &mut buffer) {
            Ok(length) if length > 0 => rest = rest.saturating_sub(length),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => return,
        }
    }
}

/// Waits until `what` happens, `limit` (monotonic milliseconds) passes, or the service ends.
fn wait(service: BorrowedFd<'_>, what: Option<(BorrowedFd<'_>, PollFlags)>, limit: u64) -> ProbeWait {
    loop {
        let left = limit.saturating_sub(monotonic_ms());
        let timeout = timespec(left);
        let (fd, flags) = what.unwrap_or((service, PollFlags::IN));
        let mut fds = [PollFd::from_borrowed_fd(service, PollFlags::IN), PollFd::from_borrowed_fd(fd, flags)];
        let result = poll(&mut fds, Some(&timeout));
        let [service_fd, what_fd] = &fds;
        match result {
            Ok(0) => return ProbeWait::TimedOut,
            Ok(_) if !service_fd.revents().is_empty() => return ProbeWait::ServiceGone,
            Ok(_) if !what_fd.revents().is_empty() => return ProbeWait::Happened,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return ProbeWait::ServiceGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answerer::SocketHolder;
    use gatevisor_wire::member::Member;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    fn probe(url: &str, timeout_ms: u64) -> ReadinessProbe {
        ReadinessProbe {
            target: http::parse_url(url).unwrap(),
            interval_ms: 5,
            timeout_ms,
            late_interval_ms: 5,
        }
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK).unwrap()
    }

    /// Answers each connection with the next of `answers`, and keeps listening.
    fn server(
        answers: &'static [&'static str],
    ) -> (u16, std::thread::JoinHandle<(Vec<String>, TcpListener)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let n = stream.read(&mut request).unwrap();
                requests.push(String::from_utf8_lossy(&request[..n]).into_owned());
                // In two pieces, as networks may deliver it.
                let (head, tail) = answer.split_at(answer.len().min(5));
                stream.write_all(head.as_bytes()).unwrap();
                stream.flush().unwrap();
                stream.write_all(tail.as_bytes()).unwrap();
            }
            (requests, listener)
        });
        (port, thread)
    }

    /// Probes a service to which every socket belongs.
    fn run(probe: &ReadinessProbe, alive: &OwnedFd, notify: &OwnedFd) -> bool {
        probe.run(alive, notify, &mut |_| Whose::Own, &mut |_| ())
    }

    fn notified(read_end: &OwnedFd) -> Vec<u8> {
        let mut buffer = [0; 8];
        match read(read_end, &mut buffer) {
            Ok(n) => buffer[..n].to_vec(),
            Err(Errno::AGAIN) => Vec::new(),
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn the_service_is_ready_when_the_url_answers_200() {
        let (port, thread) =
            server(&["", "HTTP/1.1 503 No\r\n\r\n", "not http at all", "HTTP/1.1 204 Yes\r\n\r\n"]);
        let (alive, _service) = pipe();
        let (told, notify) = pipe();
        assert!(run(&probe(&format!("http://127.0.0.1:{port}/health"), 60_000), &alive, &notify));
        assert_eq!(notified(&told), b"\n");
        let (requests, _) = thread.join().unwrap();
        assert_eq!(requests.len(), 4);
        assert!(requests.iter().all(|r| r.starts_with("GET /health HTTP/1.1\r\n")), "{requests:?}");
    }

    #[test]
    fn a_server_whose_answer_is_long_is_not_hung_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            for head in ["HTTP/1.1 503 No\r\n\r\n", "HTTP/1.1 200 Yes\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                stream.write_all(head.as_bytes()).unwrap();
                // This is more than all buffers hold, so the last of it needs a reader.
                for _ in 0..16 {
                    stream.write_all(&vec![b'x'; 32 << 10]).unwrap();
                }
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                // The other end has read all of it and closes, without a reset.
                assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
            }
            listener
        });
        let (alive, _service) = pipe();
        let (told, notify) = pipe();
        assert!(run(&probe(&format!("http://127.0.0.1:{port}/health"), 60_000), &alive, &notify));
        assert_eq!(notified(&told), b"\n");
        thread.join().unwrap();
    }

    #[test]
    fn a_service_that_is_ready_later_than_it_should_be_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let [is_late, is_over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (said_late, says_over) = (Arc::clone(&is_late), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            // Who answers must be there until that was looked at.
            let mut answered = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                // The prober may have given up this connection, and then asks again.
                let _ = stream.read(&mut [0; 512]);
                let is_ready = is_late.load(Ordering::SeqCst);
                let status = if is_ready { "200 OK" } else { "503 Starting" };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
                answered.extend(is_ready.then_some(stream));
            }
        });
        let (alive, _service) = pipe();
        let (told, notify) = pipe();
        let probe = probe(&format!("http://127.0.0.1:{port}/"), 40);
        let mut tell = |why: String| {
            if why.contains("within 1 s that it is ready, and is asked less often now") {
                said_late.store(true, Ordering::SeqCst);
            }
        };
        assert!(probe.run(&alive, &notify, &mut |_| Whose::Own, &mut tell));
        assert_eq!(notified(&told), b"\n");
        says_over.store(true, Ordering::SeqCst);
        drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
        thread.join().unwrap();
    }

    #[test]
    fn the_prober_ends_with_the_service_even_in_the_middle_of_an_attempt() {
        // The kernel accepts the connection, and nobody ever answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (alive, service) = pipe();
        let (told, notify) = pipe();
        let thread = std::thread::spawn(move || {
            // Once the probe is connected, the service dies.
            let connection = listener.accept().unwrap();
            drop(service);
            connection
        });
        let start = Instant::now();
        assert!(!run(&probe(&format!("http://127.0.0.1:{port}/"), 60_000), &alive, &notify));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(notified(&told), b"");
        drop(thread.join().unwrap());
    }

    /// Returns that a socket is of a process of another user.
    fn another() -> Whose {
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let socket = Socket { local, remote: local, listens: true, uid: 7, inode: u64::MAX };
        let nobody = Member { scandir: b"", supervisor: 0, name: b"" };
        Whose::Another(SocketHolder::of(&socket, &nobody))
    }

    #[test]
    fn an_answer_counts_only_where_the_listener_and_who_answered_are_the_services() {
        for (verdicts, expected, asked) in [
            ([Whose::Own, Whose::Own], true, 1),
            ([Whose::Unknown("process 7 (x)".to_owned()), Whose::Own], false, 0),
            ([Whose::Unknown("there is no /proc".to_owned()), Whose::Own], false, 0),
            ([Whose::Own, Whose::Unknown("process 7 (x)".to_owned())], false, 1),
            ([another(), Whose::Own], false, 0),
            ([Whose::Own, another()], false, 1),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            // It keeps the connection, so that its end of it can be looked at.
            let thread = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let length = stream.read(&mut [0; 512]).unwrap_or(0);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.read(&mut [0; 1]);
                usize::from(length > 0)
            });
            let (alive, service) = pipe();
            let (told, notify) = pipe();
            let (mut said, mut looks, mut service) = (Vec::new(), verdicts.iter(), Some(service));
            let mut judge = |_: &[Socket]| looks.next().cloned().unwrap_or(Whose::Own);
            let once =
                ReadinessProbe { interval_ms: 60_000, ..probe(&format!("http://127.0.0.1:{port}/"), 60_000) };
            // It is not asked a second time.
            let is_ready = once.run(&alive, &notify, &mut judge, &mut |why| {
                said.push(why);
                service = None;
            });
            assert_eq!((is_ready, thread.join().unwrap()), (expected, asked), "{verdicts:?}");
            assert_eq!(notified(&told), if expected { &b"\n"[..] } else { b"" });
            assert_eq!(said.is_empty(), expected, "{said:?}");
            assert!(said.iter().take(1).all(|why| why.contains(&port.to_string())), "{said:?}");
            if verdicts.contains(&another()) {
                let held = format!(
                    "port {port} is held by a process of uid 7, which may not be looked into, and not by this service"
                );
                assert_eq!(said.first(), Some(&held));
            }
        }
    }
}
