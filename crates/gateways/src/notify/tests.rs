//! Real senders: a program of Python's library alone, as a gateway would have it, and strangers.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// Sends each line of its input as a datagram, in which a blank stands for a new line, and ends with it.
const SENDER: &str = "import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ['NOTIFY_SOCKET'])
for line in sys.stdin:
    s.send(line.strip().replace(' ', '\\n').encode())
    print('sent', flush=True)
";

struct Sender(Child);

impl Sender {
    /// Starts one behind these words, such as `setsid`.
    fn start(before: &[&str], receiver: &Receiver) -> Self {
        let words = before.iter().copied().chain(["python3", "-c", SENDER]);
        let words: Vec<&str> = words.collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("NOTIFY_SOCKET", receiver.path().unwrap());
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

fn receiver() -> (tempfile::TempDir, Receiver) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::bind(&directory.path().join("coder")).unwrap();
    (directory, receiver)
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
    let (_directory, receiver) = receiver();
    let mut gateway = Sender::start(&["setsid"], &receiver);
    // A child of a process in the gateway's place.
    let mut child = Sender::start(&["setsid", "sh", "-c", "\"$@\"; true", "sh"], &receiver);
    let mut stranger = Sender::start(&["setsid"], &receiver);
    gateway.send("READY=1 STATUS=well");
    assert_eq!(taken(&receiver, gateway.pid()), [Message::Ready, Message::Status("well".to_owned())]);
    child.send("WATCHDOG=1");
    assert_eq!(taken(&receiver, child.pid()), [Message::Watchdog]);
    stranger.send("READY=1");
    assert_eq!(taken(&receiver, gateway.pid()), []);
    // It is the test's child, as the others are.
    stranger.send("STOPPING=1");
    assert_eq!(taken(&receiver, own()), [Message::Stopping]);
}

#[test]
fn a_sender_that_has_ended_cannot_be_told_and_does_not_count() {
    let (_directory, receiver) = receiver();
    let mut gateway = Sender::start(&["setsid"], &receiver);
    gateway.send("READY=1");
    let pid = gateway.pid();
    drop(gateway);
    // Its number is nobody's, unless somebody has got it since.
    assert_eq!(taken(&receiver, own()), []);
    assert_ne!(pid, own());
}

#[test]
fn only_its_user_may_send_and_what_was_in_its_place_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coder");
    std::fs::write(&path, "what an earlier one left").unwrap();
    let first = Receiver::bind(&path).unwrap();
    let second = Receiver::bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
    assert_eq!((taken(&first, own()), taken(&second, own())), (vec![], vec![Message::Ready]));
}

#[test]
fn a_path_that_is_too_long_for_a_gateway_can_be_bound_and_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let receiver = Receiver::bind(&deep.join("coder")).unwrap();
    assert_eq!(receiver.path(), None);
    assert!(deep.join("coder").exists());
}

#[test]
fn a_flood_is_taken_in_turns_and_each_sender_is_looked_at_once_a_turn() {
    let (_directory, receiver) = receiver();
    let path = receiver.path().unwrap().to_owned();
    let flood = std::thread::spawn(move || {
        let socket = UnixDatagram::unbound().unwrap();
        // The kernel keeps a few, and has the sender wait.
        (0..1000).take_while(|_| socket.send_to(b"WATCHDOG=1", &path).is_ok()).count()
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
    let (_directory, receiver) = receiver();
    let path = receiver.path().unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    let long = [b"READY=1\n".as_slice(), &[b'x'; DATAGRAM_BYTES]].concat();
    socket.send_to(&long, path).unwrap();
    socket.send_to(b"", path).unwrap();
    socket.connect(path).unwrap();
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    gatevisor_sys::socket::send_with_fds(&socket, b"STOPPING=1", &[socket.as_fd()]).unwrap();
    assert_eq!(taken(&receiver, own()), [Message::Stopping]);
    assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before, "a descriptor came in");
}
