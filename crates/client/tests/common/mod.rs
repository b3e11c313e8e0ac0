//! Scandirs under real s6, and supervisors that only pretend, for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

use gatevisor_client::{ServiceDir, Subscription, Waited, Waiter};
use gatevisor_wire::{
    Pid,
    control::{Control, ControlSignal},
    event::{self, ServiceEvent},
    files,
    status::Status,
    tai::Tai64n,
    wait::WaitStatus,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, inotify, mkfifoat, open},
    process::{PidfdFlags, Signal, kill_process, pidfd_open},
};
use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::ffi::OsStrExt,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The latest moment at which an event of a test may come.
#[expect(clippy::unnecessary_wraps, reason = "deadlines are optional")]
pub fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_mins(1))
}

/// Starts a program of s6, or says what is missing.
fn s6(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start {command:?}: {error}; these tests need s6 (Debian's package `s6`) in PATH")
    })
}

/// Makes a file that can be executed.
pub fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a service directory with its event fifodir, so that a subscriber can be there before the
/// supervisor.
pub fn service(path: &Path, run: &str) -> ServiceDir {
    fs::create_dir(path).unwrap();
    script(&path.join(files::RUN), run);
    let event = path.join(files::EVENT);
    fs::create_dir(&event).unwrap();
    fs::set_permissions(&event, fs::Permissions::from_mode(files::EVENT_MODE)).unwrap();
    ServiceDir::new(path)
}

/// A scandir under a real s6-svscan.
pub struct Scan {
    pub dir: TempDir,
    child: Child,
}

impl Scan {
    /// Starts s6-svscan on an empty scandir and returns once it reads its control FIFO.
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        // The shell makes stdout the descriptor on which s6-svscan says that it is ready.
        let mut child = s6(Command::new("sh")
            .args(["-c", "exec s6-svscan -d 3 \"$0\" 3>&1 >/dev/null 2>/dev/null"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped()));
        let mut said = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        assert_eq!(
            said, b"\n",
            "s6-svscan did not start; these tests need s6 (Debian's package `s6`) in PATH"
        );
        Self { dir, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a service in a place that is not scanned, with `prepare`, publishes it by renaming,
    /// and returns once it is supervised.
    pub fn add(&self, name: &str, run: &str, prepare: impl FnOnce(&Path)) -> ServiceDir {
        let staged = self.dir.path().join(format!(".{name}"));
        let dir = service(&staged, run);
        prepare(&staged);
        let mut waiter = Waiter::subscribe(&dir).unwrap();
        let published = ServiceDir::new(self.dir.path().join(name));
        fs::rename(&staged, published.path()).unwrap();
        waiter.moved(&published);
        let scan = gatevisor_client::ScanDir::new(self.dir.path());
        scan.send(&[gatevisor_wire::scan::ScanCommand::Rescan]).unwrap();
        assert_eq!(waiter.supervised(soon()).unwrap(), Waited::Reached, "{name}");
        published
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        let services = gatevisor_client::ScanDir::new(self.dir.path()).services().unwrap_or_default();
        let mut waiters: Vec<Waiter> =
            services.iter().filter_map(|(_, path)| Waiter::subscribe(&ServiceDir::new(path)).ok()).collect();
        end(&mut self.child, Signal::TERM);
        for (_, path) in services {
            // Down also where TERM is ignored.
            let _ = ServiceDir::new(path).send(&[Control::Down, Control::Signal(ControlSignal::Kill)]);
        }
        for waiter in &mut waiters {
            let _ = waiter.released(soon());
        }
    }
}

/// Signals a child and waits for its end, if that has not been done already.
pub fn end(child: &mut Child, signal: Signal) {
    if child.try_wait().is_ok_and(|ended| ended.is_some()) {
        return;
    }
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let _ = kill_process(pid, signal);
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) == Ok(0) {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// One service under a real s6-supervise, which is a child of the test.
pub struct Supervised {
    _parent: TempDir,
    pub dir: ServiceDir,
    pub child: Child,
}

impl Supervised {
    pub fn start(run: &str, prepare: impl FnOnce(&Path)) -> Self {
        let parent = TempDir::new().unwrap();
        let dir = service(&parent.path().join("service"), run);
        prepare(dir.path());
        let mut waiter = Waiter::subscribe(&dir).unwrap();
        let child =
            s6(Command::new("s6-supervise").arg(dir.path()).stdin(Stdio::null()).stderr(Stdio::null()));
        assert_eq!(waiter.supervised(soon()).unwrap(), Waited::Reached);
        Self { _parent: parent, dir, child }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.dir.send(&[Control::Down, Control::Signal(ControlSignal::Kill)]);
        end(&mut self.child, Signal::TERM);
    }
}

/// Waits for one event, whatever comes before it.
pub fn until_event(subscription: &mut Subscription, expected: ServiceEvent) {
    while subscription.next(soon()).unwrap().expect("an event in time") != expected {}
}

/// Waits until the status of a real service is as requested, for states that no event announces.
pub fn until(dir: &ServiceDir, expected: impl Fn(&Status) -> bool) -> Status {
    let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    let supervise = dir.path().join(files::SUPERVISE);
    inotify::add_watch(&changes, &supervise, inotify::WatchFlags::MOVED_TO).unwrap();
    let deadline = soon().unwrap();
    loop {
        let status = dir.status().unwrap();
        if expected(&status) {
            return status;
        }
        let left = deadline.saturating_duration_since(Instant::now()).try_into().unwrap();
        let count = poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&left)).unwrap();
        assert_ne!(count, 0, "{status:?}");
        let mut news = [0; 4096];
        let _ = rustix::io::read(&changes, &mut news);
    }
}

/// Waits for something that no event announces, such as the kernel's state of a process.
///
/// It looks a hundred times a second. Use it only where there is no event.
pub fn polled(what: &str, is_so: impl Fn() -> bool) {
    let (deadline, pause) = (soon().unwrap(), Timespec { tv_sec: 0, tv_nsec: 10_000_000 });
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        let _ = poll(&mut [], Some(&pause));
    }
}

/// A supervisor that does only what the test tells it.
pub struct Fake {
    pub dir: ServiceDir,
    control: Option<OwnedFd>,
}

pub const DOWN: Status = Status {
    changed: Tai64n::EPOCH,
    ready_at: Tai64n::EPOCH,
    pid: None,
    last: WaitStatus::exited(0),
    paused: false,
    finishing: false,
    want_up: false,
    ready: true,
};

pub fn up() -> Status {
    Status { pid: Pid::new(4_000_000), want_up: true, ready: false, ..DOWN }
}

impl Fake {
    pub fn start(path: &Path, status: &Status) -> Self {
        let dir = ServiceDir::new(path);
        for directory in [path, &path.join(files::EVENT), &path.join(files::SUPERVISE)] {
            fs::create_dir(directory).unwrap();
        }
        let fifo = dir.control_path();
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        // For writing too, as a supervisor does, so that there is no end of file when a client
        // closes its end.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let control = open(&fifo, flags, Mode::empty()).unwrap();
        fs::write(path.join(files::STATUS), status.encode()).unwrap();
        Self { dir, control: Some(control) }
    }

    /// Replaces the status file atomically.
    pub fn publish(&self, status: &Status) {
        self.write(files::STATUS, &status.encode());
    }

    /// Replaces a file of the service directory atomically.
    pub fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.dir.path().join(file);
        let new = path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    /// Tells every subscriber, as a notifier does; returns how many there were.
    pub fn tell(&self, events: &[ServiceEvent]) -> usize {
        let bytes: Vec<u8> = events.iter().map(|event| event.byte()).collect();
        notify(&self.dir.event_path(), &bytes)
    }

    /// Waits until bytes arrive on the control FIFO and returns them.
    pub fn commands(&self) -> Vec<u8> {
        let control = self.control.as_ref().expect("the fake is still there");
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&limit)), Ok(1));
        let mut buffer = [0; 100];
        let count = rustix::io::read(control, &mut buffer).unwrap();
        buffer.iter().take(count).copied().collect()
    }

    /// Ends without an event.
    pub fn vanish(&mut self) {
        self.control = None;
    }
}

/// Returns the names of the subscribers in an event fifodir, half-made ones included.
pub fn subscriptions(event: &Path) -> Vec<PathBuf> {
    fs::read_dir(event).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Writes to every subscriber that is complete; returns how many there were.
pub fn notify(event: &Path, bytes: &[u8]) -> usize {
    let mut count = 0;
    for fifo in subscriptions(event) {
        if event::is_subscriber_name(fifo.file_name().unwrap().as_bytes()) {
            let nonblock = OFlags::NONBLOCK.bits().cast_signed();
            // A subscriber that is no longer needed may go at any moment.
            let told = fs::OpenOptions::new().write(true).custom_flags(nonblock).open(fifo);
            if told.and_then(|mut fifo| fifo.write_all(bytes)).is_ok() {
                count += 1;
            }
        }
    }
    count
}
