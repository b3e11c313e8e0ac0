//! Real senders: a program that uses only Python's library, as a gateway would, and processes that
//! do not belong to the service.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatevisor_liveness::LivePolicy;
use gatevisor_wire::Pid;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::receiver::{DATAGRAM_BYTES, DATAGRAMS, is_member};
use super::*;

/// Sends each line of its input as a datagram, in which a blank stands for a new line. Ends with
/// its input.
const SENDER: &str = "import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ['NOTIFY_SOCKET'])
for line in sys.stdin:
    s.send(line.strip().replace(' ', '\\n').encode())
    print('sent', flush=True)
";

struct Sender(Child);

impl Sender {
    /// Starts a sender with these words before it, such as `setsid`.
    fn start(before: &[&str], socket: &Path) -> Self {
        let words = before.iter().copied().chain(["python3", "-c", SENDER]);
        let words: Vec<&str> = words.collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("NOTIFY_SOCKET", socket);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::new(i32::try_from(self.0.id()).unwrap()).unwrap()
    }

    fn send(&mut self, line: &str) {
        self.0.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut said = [0; 5];
        self.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"sent\n");
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Returns a directory with a socket, and the socket's path.
fn receiver() -> (tempfile::TempDir, PathBuf, Receiver) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = bind(directory.path());
    let socket = directory.path().join("notify");
    (directory, socket, receiver)
}

fn bind(directory: &Path) -> Receiver {
    Receiver::bind(File::open(directory).unwrap(), "notify").unwrap()
}

fn taken(receiver: &Receiver, leader: Pid) -> Vec<Message> {
    let mut taken = Vec::new();
    receiver.drain(&mut |sender| is_member(sender, leader), &mut |message| taken.push(message));
    taken
}

fn own() -> Pid {
    Pid::new(i32::try_from(std::process::id()).unwrap()).unwrap()
}

#[test]
fn what_the_gateway_and_its_children_say_counts_and_what_a_stranger_says_does_not() {
    let (_directory, socket, receiver) = receiver();
    let mut gateway = Sender::start(&["setsid"], &socket);
    // A child of a process that stands for the gateway.
    let mut child = Sender::start(&["setsid", "sh", "-c", "\"$@\"; true", "sh"], &socket);
    let mut stranger = Sender::start(&["setsid"], &socket);
    gateway.send("READY=1 STATUS=well");
    assert_eq!(taken(&receiver, gateway.pid()), [Message::Ready, Message::Status("well".to_owned())]);
    child.send("WATCHDOG=1");
    assert_eq!(taken(&receiver, child.pid()), [Message::Watchdog]);
    stranger.send("READY=1");
    assert_eq!(taken(&receiver, gateway.pid()), []);
    // It is the test's child, like the others.
    stranger.send("STOPPING=1");
    assert_eq!(taken(&receiver, own()), [Message::Stopping]);
}

#[test]
fn a_sender_that_has_ended_cannot_be_told_and_does_not_count() {
    let (_directory, socket, receiver) = receiver();
    let mut gateway = Sender::start(&["setsid"], &socket);
    gateway.send("READY=1");
    let pid = gateway.pid();
    drop(gateway);
    // Its number is nobody's, unless it has been reused since.
    assert_eq!(taken(&receiver, own()), []);
    assert_ne!(pid, own());
}

#[test]
fn only_its_user_may_send_and_what_was_in_its_place_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    std::fs::write(&path, "what an earlier one left").unwrap();
    let first = bind(directory.path());
    let second = bind(directory.path());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
    assert_eq!((taken(&first, own()), taken(&second, own())), (vec![], vec![Message::Ready]));
}

#[test]
fn a_socket_can_be_made_however_long_its_path_is_and_is_received_as_long_as_its_receiver_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let (receiver, _long) = (bind(directory.path()), bind(&deep));
    assert!(deep.join("notify").exists());
    let socket = directory.path().join("notify");
    assert!(is_received(&socket));
    drop(receiver);
    assert!(!is_received(&socket) && !is_received(&directory.path().join("nothing")));
}

#[test]
fn a_flood_is_taken_in_turns_and_each_sender_is_looked_at_once_a_turn() {
    let (_directory, socket, receiver) = receiver();
    let flood = std::thread::spawn(move || {
        let sender = UnixDatagram::unbound().unwrap();
        // The kernel keeps a few, and makes the sender wait.
        (0..1000).take_while(|_| sender.send_to(b"WATCHDOG=1", &socket).is_ok()).count()
    });
    let (mut all, mut looks, mut turns) = (0, 0, 0);
    let deadline = Instant::now() + Duration::from_mins(2);
    while all < 1000 {
        assert!(Instant::now() < deadline, "{all} have come");
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&receiver, PollFlags::IN)], Some(&second)).unwrap();
        let mut some = 0;
        receiver.drain(
            &mut |_| {
                looks += 1;
                true
            },
            &mut |_| some += 1,
        );
        assert!(some <= DATAGRAMS);
        all += some;
        turns += 1;
    }
    assert_eq!(flood.join().unwrap(), 1000);
    assert!(looks <= turns, "{looks} looks in {turns} turns");
}

#[test]
fn a_datagram_that_is_too_long_or_brings_a_descriptor_does_no_harm() {
    let (_directory, socket, receiver) = receiver();
    let sender = UnixDatagram::unbound().unwrap();
    let long = [b"READY=1\n".as_slice(), &[b'x'; DATAGRAM_BYTES]].concat();
    sender.send_to(&long, &socket).unwrap();
    sender.send_to(b"", &socket).unwrap();
    sender.connect(&socket).unwrap();
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    gatevisor_sys::socket::send_with_fds(&sender, b"STOPPING=1", &[sender.as_fd()]).unwrap();
    assert_eq!(taken(&receiver, own()), [Message::Stopping]);
    assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before, "a descriptor came in");
}

#[test]
fn a_service_is_told_its_socket_and_twice_the_interval_unless_the_path_is_too_long() {
    let settings = LiveSettings { interval_ms: 10_000, policy: LivePolicy::Warn, ..LiveSettings::default() };
    let told_of = told(Path::new("/run/service/gateway-a"), &settings).unwrap();
    let [socket, usec] = told_of.map(|(name, value)| format!("{name}={}", value.display()));
    assert_eq!(socket, "NOTIFY_SOCKET=/run/service/gateway-a/data/notify");
    assert_eq!(usec, "WATCHDOG_USEC=20000000");
    let long = format!("/{}/gateway-a", "d".repeat(100));
    assert_eq!(told(Path::new(&long), &settings), None);
    assert!(max_age_ms(&settings) > settings.interval_ms);
}

#[test]
fn what_a_service_says_is_kept_until_it_says_otherwise() {
    let mut said = Said { pid: 42, ..Said::default() };
    let hour = Duration::from_hours(1);
    for (message, words, failed) in [
        (Message::Status("three chats".to_owned()), 0, false),
        (Message::Watchdog, 1, false),
        (Message::WatchdogTrigger, 1, true),
        (Message::Ready, 2, false),
        (Message::Extend(hour), 3, false),
        // A shorter time does not replace a longer one.
        (Message::Extend(Duration::from_secs(1)), 4, false),
        (Message::Reloading, 5, false),
        (Message::Stopping, 6, false),
    ] {
        said.take(message, 5);
        assert_eq!((said.words, said.failed), (words, failed), "{said:?}");
    }
    assert_eq!((said.ready, said.stopping, said.extended_until_ms), (true, true, 3_600_005));
    assert_eq!(said.status.as_deref(), Some("three chats"));
    assert_eq!(Said::decode(&said.encode().unwrap(), 42), Some(said.clone()));
    assert_eq!(Said::decode(&said.encode().unwrap(), 43), None, "that was of another life");
    said.take(Message::Status(String::new()), 5);
    assert_eq!(said.status, None);
}

#[test]
fn what_is_said_reaches_the_supervisor_and_the_file_and_ends_with_the_service() {
    let service = tempfile::tempdir().unwrap();
    std::fs::create_dir(service.path().join("data")).unwrap();
    let receiver = Receiver::bind(File::open(service.path().join("data")).unwrap(), "notify").unwrap();
    let (alive, runs) = rustix::pipe::pipe().unwrap();
    let (told, ready) = rustix::pipe::pipe().unwrap();
    let directory = File::open(service.path()).unwrap();
    let relaying = std::thread::spawn(move || relay(&receiver, own(), alive, directory, Some(ready)));
    let socket = service.path().join(SOCKET);
    UnixDatagram::unbound().unwrap().send_to(b"STATUS=three chats\nREADY=1", &socket).unwrap();
    let mut byte = [0; 2];
    assert_eq!(rustix::io::read(&told, &mut byte), Ok(1));
    assert_eq!(byte[0], b'\n');
    let text = std::fs::read_to_string(service.path().join(SAID)).unwrap();
    let said = Said::decode(&text, own().get()).unwrap();
    assert_eq!((said.ready, said.status.as_deref()), (true, Some("three chats")));
    drop(runs);
    relaying.join().unwrap();
    assert!(!is_received(&socket));
}
