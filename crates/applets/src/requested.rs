//! *Lives here:* sending a request, and waiting until the status shows it or a later request has
//! replaced it.
//!
//! *Does not live here:* waiting for the requested state, which events announce.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gatevisor_client::engine::{self, Interests, Waiting, Woken};
use gatevisor_client::{SendError, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::{control::Control, files};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The status file within `supervise/`.
const STATUS: &str = "status";
/// How long a supervisor may take from reading a request to publishing it.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct SentRequest {
    want_up: Option<bool>,
    /// Reports that the status was replaced since.
    inotify: Option<Inotify>,
}

impl SentRequest {
    /// Sends the commands; the last request among them counts.
    pub(crate) fn send(dir: &ServiceDir, commands: &[Control]) -> Result<Self, SendError> {
        let want_up = commands.iter().rev().find_map(|command| wanted_up(*command));
        // The watch comes before the sending, so that no answer is missed.
        let inotify = want_up.and_then(|_| watch(dir));
        dir.send(commands)?;
        Ok(Self { want_up, inotify })
    }

    /// Returns whether it is a request to be down.
    pub(crate) fn is_down(&self) -> bool {
        self.want_up == Some(false)
    }

    /// Returns true as soon as the request is recorded, or has been recorded and replaced by
    /// another one.
    ///
    /// A supervisor publishes the status anew for every request, even if nothing changes. But the
    /// service may fail for good, or its supervision may end, a moment later, and then the status
    /// shows that. If the status cannot be watched, or nothing is requested, sending is enough.
    /// False means that `deadline` has passed.
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

/// Returns whether the service is wanted up after a command, or `None` if the command is no
/// request.
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

fn watch(dir: &ServiceDir) -> Option<Inotify> {
    let inotify = Inotify::new().ok()?;
    let what = WatchFlags::MOVED_TO | WatchFlags::ACCESS | WatchFlags::ONLYDIR;
    let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    by_path::watch_opened(&inotify, supervise, what).ok()?;
    Some(inotify)
}

/// A request whose recording is awaited.
struct Unshown<'a> {
    dir: &'a ServiceDir,
    want_up: bool,
    inotify: &'a Inotify,
    /// The latest time at which a supervisor that has read the request has published it.
    published_by: Option<Instant>,
}

impl Waiting for Unshown<'_> {
    /// Whether the request is recorded, or was replaced.
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
        // It was read, and the status shows something else: it was replaced, or ignored by a
        // supervisor that is ending.
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

/// A change below `supervise/`.
enum SuperviseChange {
    /// The status was replaced.
    Replaced,
    /// The directory has gone with the service.
    Gone,
    /// A file was read, perhaps the control FIFO.
    Other,
}

fn change(inotify: &Inotify) -> SuperviseChange {
    let (mut is_gone, mut is_replaced) = (false, false);
    let _ = inotify.read(|change| {
        is_gone |= change.is_end();
        is_replaced |= change.is_loss() || (change.is_arrival() && change.name == Some(OsStr::new(STATUS)));
    });
    match (is_gone, is_replaced) {
        (true, _) => SuperviseChange::Gone,
        (false, true) => SuperviseChange::Replaced,
        (false, false) => SuperviseChange::Other,
    }
}

/// Returns whether the supervisor has read everything that was sent, or has gone.
fn is_read(dir: &ServiceDir) -> bool {
    match dir.open_file(files::CONTROL, OFlags::WRONLY) {
        Ok(control) => rustix::io::ioctl_fionread(&control).map_or(true, |unread| unread == 0),
        Err(_) => true,
    }
}
