//! The log daemon of an owner is a process of the owner. Whatever the owner does with it, no other
//! user is affected.

use std::fs;

use crate::support::World;
use crate::support::need_root;
use crate::support::service::{Service, neighbour, still_served};

/// A user that no system has.
const OWNER: u32 = 23_456;

/// Finds the owner's log daemon, and takes its descriptors.
const PRELUDE: &str = r#"#!/usr/bin/env python3
import ctypes, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)

def is_own_daemon(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/status") as status:
            uid = [words.split()[1] for words in status if words.startswith("Uid:")]
            return b"\0logd\0" in line.read() and uid == [str(os.getuid())]
    except OSError:
        return False

def note(name, text):
    own = f"{name}.{os.getpid()}"
    with open(own, "w") as file:
        file.write(text)
    os.rename(own, name)

def stay():
    while True:
        signal.pause()

def taken(number):
    """Returns a descriptor of the daemon as one of ours, or why it cannot be had."""
    held = libc.syscall(434, daemon, 0)
    found = libc.syscall(438, held, number, 0)
    return found if found >= 0 else os.strerror(ctypes.get_errno())

daemon = next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_own_daemon(pid))
"#;

/// A user of this test alone: its program looks for the log daemon of its user on the whole
/// machine.
const ALONE: u32 = 23_469;

/// Places a service of the owner whose log the daemon writes, with a `run` that waits for its
/// daemon.
fn attacker(world: &World, program: &str) -> Service {
    let log = format!("#!{} log\ndirectory = \"lines\"\n", env!("CARGO_BIN_EXE_gatevisor"));
    let mut service = world
        .service("attacker")
        .executable("run", &format!("{PRELUDE}{program}"))
        .prepare(|dir| fs::create_dir_all(dir.join("log/lines")).unwrap())
        .executable("log/run", &log)
        .owned_by(ALONE)
        .place();
    service.receive("su");
    service
}

#[test]
fn nobody_takes_a_descriptor_from_a_log_daemon_or_opens_what_it_has() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    // Closing the last descriptor of a socket that holds unread lines takes as long as the socket's
    // maker likes.
    let program = r#"
number = taken(3)
if isinstance(number, int):
    stolen = socket.socket(fileno=number)
    # Each closes its own before the supervisor does, or else it is the one that waits.
    for _ in range(100):
        if os.fork():
            continue
        listener = socket.create_server(("127.0.0.1", 0))
        lingering = socket.create_connection(listener.getsockname())
        peer = listener.accept()
        lingering.setblocking(False)
        try:
            while True:
                lingering.send(bytes(65536))
        except BlockingIOError:
            pass
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        try:
            socket.send_fds(stolen, [b"x"], [lingering.fileno()])
        except BlockingIOError:
            pass
        lingering.close()
        stay()
    number = "taken"
opened = []
for number_of in (3, 4, 5):
    try:
        opened.append(os.readlink(f"/proc/{daemon}/fd/{number_of}"))
    except OSError as error:
        opened.append(error.strerror)
note("came-of-it", f"{number} {opened}")
stay()
"#;
    let service = attacker(&world, program);
    let came_of_it = service.until_file("came-of-it", "what came of it", |text| !text.is_empty());
    still_served(&mut neighbour);
    let refused = "Permission denied";
    assert_eq!(came_of_it, format!("Operation not permitted ['{refused}', '{refused}', '{refused}']"));
}

#[test]
fn lines_of_another_users_slot_say_whose_they_are_whatever_it_asks_for() {
    need_root();
    let world = World::started();
    let program = env!("CARGO_BIN_EXE_gatevisor");
    let evil = "printf 'gatevisor: forged\\n\\033]0;owned\\007\\n\\342\\200\\256turned\\n'; echo over; exec sleep 3600";
    let place = |name: &str, log: &str, owner: u32| {
        world
            .service(name)
            .run(evil)
            .prepare(|dir| fs::create_dir_all(dir.join("log/lines")).unwrap())
            .executable("log/run", log)
            .owned_by(owner)
            .place()
            .receive("su");
    };
    let ours = |rest: &str| format!("#!{program} log\ndirectory = \"lines\"\n{rest}\n");
    place("gateway-raw", &ours("forward = \"raw\""), OWNER);
    place("gateway-called", &ours("forward = \"raw\"\nlabel = \"gatevisor: x\""), OWNER);
    place("gatevisor: web", &ours(""), OWNER);
    place("roots", &ours("forward = \"raw\""), 0);
    for label in ["raw", "called/gatevisor\\u{3a}\\u{20}x", "gatevisor\\u{3a}\\u{20}web"] {
        world.until_said(&format!("{label} | over\n"));
        let said = world.said();
        assert!(said.contains(&format!("{label} | gatevisor: forged\n")), "{said}");
        assert!(said.contains(&format!("{label} | \\u{{1b}}]0;owned\\u{{7}}\n")), "{said}");
        assert!(said.contains(&format!("{label} | \\u{{202e}}turned\n")), "{said}");
    }
    // The supervisor's own user may print anything on its own output.
    world.until_said("\nover\n");
    let said = world.said();
    // Its first line may be the first of all.
    let said = format!("\n{said}");
    assert_eq!(said.matches("\ngatevisor: forged\n").count(), 1, "{said}");
}
