//! *Lives here:* sending a request, and waiting until the status shows it or a later request replaced it.
//!
//! *Does not live here:* waiting for the service to become so; events tell that.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gatevisor_client::engine::{self, Interests, Waiting, Woken};
use gatevisor_client::{SendError, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_wire::{control::Control, files};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// The status file within `supervise/`.
const STATUS: &CStr = c"status";
/// Room for some dozens of events.
const ROOM: usize = 4096;
/// How long a supervisor may take from reading a request to publishing it.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct SentRequest {
    want_up: Option<bool>,
    /// What says that the status was replaced since.
    inotify: Option<OwnedFd>,
}

impl SentRequest {
    /// Sends the commands, of which the last request counts.
    pub(crate) fn send(dir: &ServiceDir, commands: &[Control]) -> Result<Self, SendError> {
        let want_up = commands.iter().rev().find_map(|command| wanted_up(*command));
        // Watched before it is sent, so that no answer is missed.
        let inotify = want_up.and_then(|_| watch(dir));
        dir.send(commands)?;
        Ok(Self { want_up, inotify })
    }

    /// Returns whether it is a request to be down.
    pub(crate) fn is_down(&self) -> bool {
        self.want_up == Some(false)
    }

    /// Returns true as soon as the request is recorded, or has been and was overtaken by another.
    ///
    /// A supervisor publishes the status anew for every request, also for one that it holds already; but the service may
    /// fail for good or its supervision end a moment later, and the status then shows that. Where the status cannot be
    /// watched, or nothing is requested, being sent is enough. False says that `deadline` passed.
    pub(crate) fn shown(&self, dir: &ServiceDir, deadline: Option<Instant>) -> bool {
        match (self.want_up, &self.inotify) {
            (Some(want_up), Some(inotify)) => {
                let unshown = Unshown { dir, want_up, inotify, published_by: None };
                engine::wait_one(unshown, deadline).unwrap_or(true)
            }
            _ => true,
        }
    }
}

/// Returns whether the service is wanted up after a command, or `None` if the command is no request.
fn wanted_up(command: Control) -> Option<bool> {
    match command {
        Control::Up | Control::UpAndEnable => Some(true),
        Control::Down
        | Control::DownAndDisable
        | Control::Once
        | Control::NoRestart
        | Control::NoRestartAndDisable => Some(false),
        Control::Exit
        | Control::Signal(_)
        | Control::DownSignal
        | Control::Reload
        | Control::StopGroup
        | Control::ContinueGroup
        | Control::KillGroup => None,
    }
}

fn watch(dir: &ServiceDir) -> Option<OwnedFd> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
    let what = WatchFlags::MOVED_TO | WatchFlags::ACCESS | WatchFlags::ONLYDIR;
    let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    by_path::watch_opened(&inotify, supervise, what).ok()?;
    Some(inotify)
}

/// A request that is waited for until the status shows it.
struct Unshown<'a> {
    dir: &'a ServiceDir,
    want_up: bool,
    inotify: &'a OwnedFd,
    /// When a supervisor that has read the request must have published it.
    published_by: Option<Instant>,
}

impl Waiting for Unshown<'_> {
    /// Whether the request is shown, or was overtaken.
    type End = bool;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.readable(self.inotify.as_fd());
    }

    fn step(&mut self, woken: Woken) -> Option<bool> {
        if woken.readable {
            let is_shown = || self.dir.status().map_or(true, |status| status.want_up == self.want_up);
            match change(self.inotify) {
                SuperviseChange::Gone => return Some(true),
                SuperviseChange::Replaced if is_shown() => return Some(true),
                SuperviseChange::Replaced | SuperviseChange::Other => {}
            }
        }
        if self.published_by.is_none() && is_read(self.dir) {
            self.published_by = Instant::now().checked_add(PUBLISHED_WITHIN);
        }
        // It was read, and the status says something else: overtaken, or passed over by a supervisor that is ending.
        self.published_by.is_some_and(|by| by <= Instant::now()).then_some(true)
    }

    fn due(&self) -> Option<Instant> {
        self.published_by
    }

    fn late(&mut self) -> bool {
        self.published_by.is_some()
    }

    fn broken(&mut self, _: Errno) -> bool {
        true
    }
}

/// What happened below `supervise/`.
enum SuperviseChange {
    /// The status was replaced.
    Replaced,
    /// The directory went away with the service.
    Gone,
    /// Something was read, perhaps the control FIFO.
    Other,
}

fn change(inotify: &OwnedFd) -> SuperviseChange {
    let mut buffer = [MaybeUninit::uninit(); ROOM];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut change = SuperviseChange::Other;
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => {
                return SuperviseChange::Gone;
            }
            Ok(event) if is_replacement(&event) => change = SuperviseChange::Replaced,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return change,
        }
    }
}

/// Returns whether the event says that the status was replaced, or that events were lost.
fn is_replacement(event: &inotify::Event<'_>) -> bool {
    let moved = event.events().contains(inotify::ReadFlags::MOVED_TO);
    event.wd() < 0 || (moved && event.file_name() == Some(STATUS))
}

/// Returns whether the supervisor has read everything that was sent, or there is none any more.
fn is_read(dir: &ServiceDir) -> bool {
    match dir.open_file(files::CONTROL, OFlags::WRONLY) {
        Ok(control) => rustix::io::ioctl_fionread(&control).map_or(true, |unread| unread == 0),
        Err(_) => true,
    }
}
