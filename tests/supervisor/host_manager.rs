//! What the supervisor tells the service manager that started it, as systemd expects it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{World, soon};

/// The supervisor's environment, with a socket in the world's directory.
const SOCKET: &str = "export NOTIFY_SOCKET=\"$GATEVISOR_TEST_WORLD/notify\"";

/// The service manager's socket, which receives the supervisor's messages.
struct Manager {
    socket: UnixDatagram,
    /// All messages so far, in order.
    received: Vec<String>,
}

impl Manager {
    fn of(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.root().join("notify")).unwrap();
        Self { socket, received: Vec::new() }
    }

    /// Waits for a message, and returns all messages from this call on until then.
    #[track_caller]
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let (deadline, first) = (soon(), self.received.len());
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 4096];
            let count = self.socket.recv(&mut bytes);
            let count = count.unwrap_or_else(|error| panic!("{wanted:?}: {error}; {:?}", self.received));
            self.received.push(String::from_utf8(bytes[..count].to_vec()).unwrap());
            if self.received.last().unwrap() == wanted {
                return self.received[first..].to_vec();
            }
        }
    }
}

#[test]
fn the_manager_is_told_that_directories_are_read_how_many_services_are_up_and_that_the_end_has_begun() {
    let mut world = World::new().prelude(SOCKET);
    let mut manager = Manager::of(&world);
    let web = world.service("web").stays().place();
    let _ready =
        world.service("ready").file("notification-fd", "3\n").run("echo >&3; exec sleep 3600").place();
    let _down = world.service("down").stays().down().place();
    world.start();
    // A first scan that takes its time is told of meanwhile.
    let first = manager.until("READY=1");
    assert!(first.iter().all(|message| message == "READY=1" || message.starts_with("STATUS=")), "{first:?}");
    manager.until("STATUS=2 of 2 services up, 1 ready");
    web.send("d");
    manager.until("STATUS=1 of 1 services up, 1 ready");
    assert!(world.stop().success());
    manager.until("STOPPING=1");
    assert_eq!(
        manager.received.iter().filter(|message| *message == "READY=1").count(),
        1,
        "{:?}",
        manager.received
    );
}

#[test]
fn a_hangup_is_a_reload_that_ends_when_the_directories_are_read() {
    let mut world = World::new().prelude(SOCKET);
    let mut manager = Manager::of(&world);
    world.start();
    manager.until("READY=1");
    world.signal(Signal::HUP);
    let messages = manager.until("READY=1");
    let reloading: Vec<&String> = messages.iter().filter(|message| !message.starts_with("STATUS=")).collect();
    let (first, rest) = reloading.split_first().unwrap();
    let moment = first.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(moment.parse::<u64>().is_ok_and(|moment| moment > 0), "{first}");
    assert_eq!(rest, ["READY=1"]);
}

#[test]
fn a_sign_of_life_comes_before_the_limit_is_over_as_long_as_the_loop_runs() {
    let mut world = World::new().prelude(
        "export NOTIFY_SOCKET=\"$GATEVISOR_TEST_WORLD/notify\" WATCHDOG_USEC=200000 WATCHDOG_PID=$$",
    );
    let mut manager = Manager::of(&world);
    world.start();
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    assert!(world.stop().success());
}

#[test]
fn a_limit_that_is_meant_for_another_process_asks_for_no_sign_of_life() {
    let mut world = World::new()
        .prelude("export NOTIFY_SOCKET=\"$GATEVISOR_TEST_WORLD/notify\" WATCHDOG_USEC=2000 WATCHDOG_PID=1");
    let mut manager = Manager::of(&world);
    world.start();
    // This message is due a hundred times later than a sign of life would be.
    manager.until("STATUS=0 of 0 services up, 0 ready");
    assert!(!manager.received.iter().any(|message| message == "WATCHDOG=1"), "{:?}", manager.received);
}

#[test]
fn a_service_is_not_told_what_the_manager_told_the_supervisor() {
    let mut world = World::new().prelude(
        "export NOTIFY_SOCKET=\"$GATEVISOR_TEST_WORLD/notify\" WATCHDOG_USEC=60000000 WATCHDOG_PID=$$ \
         LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=x KEPT=yes",
    );
    let _manager = Manager::of(&world);
    let service = world.service("web").run("env > own.env; mv own.env env; exec sleep 3600").place();
    world.start();
    let variables = service.until_file("env", "its environment", |text| !text.is_empty());
    let names: Vec<&str> = variables.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"KEPT"), "{variables}");
    for name in
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]
    {
        assert!(!names.contains(&name), "{variables}");
    }
}

#[test]
fn a_manager_that_does_not_listen_is_named_once_and_supervision_goes_on() {
    let mut world = World::new().prelude(SOCKET);
    let mut service = world.service("web").stays().place();
    world.start();
    service.receive("su");
    world.until_said("was not told `READY=1`");
    service.send("d");
    service.receive("dD");
    assert!(world.stop().success());
    assert_eq!(world.said().matches("was not told").count(), 1, "{}", world.said());
}

#[test]
fn a_manager_that_has_no_room_is_told_later_that_the_directories_are_read() {
    let mut world = World::new().prelude(SOCKET);
    let mut manager = Manager::of(&world);
    let crowd = UnixDatagram::unbound().unwrap();
    crowd.set_nonblocking(true).unwrap();
    while crowd.send_to(b"X=1", world.root().join("notify")).is_ok() {}
    world.start();
    world.until_said("was not told `READY=1`");
    manager.until("READY=1");
}

#[test]
fn an_invalid_address_is_reported_and_supervision_goes_on() {
    let mut world = World::new().prelude("export NOTIFY_SOCKET=vsock:2:1234");
    let mut service = world.service("web").stays().place();
    world.start();
    world.until_said("the service manager that listens at `vsock:2:1234` cannot be told anything");
    service.receive("su");
    assert!(world.stop().success());
}
