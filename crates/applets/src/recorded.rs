//! *Lives here:* sending a wish and hearing that the status shows it.
//!
//! *Does not live here:* waiting for what comes of a wish; letters tell that.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use gatevisor_client::{SendError, ServiceDir};
use gatevisor_wire::{control::Control, files};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::listen::remaining;

/// The status file within `supervise/`.
const STATUS: &CStr = c"status";
/// Room for some dozens of events.
const ROOM: usize = 4096;

/// Sends the commands, and returns true as soon as the last wish among them is recorded.
///
/// A supervisor publishes the status anew for every wish, also for one that it holds already. Where the status cannot
/// be watched, or nothing is wished, being sent is enough. False says that `deadline` passed.
pub(crate) fn send(
    dir: &ServiceDir,
    commands: &[Control],
    deadline: Option<Instant>,
) -> Result<bool, SendError> {
    let wish = commands.iter().rev().find_map(|command| wanted_up(*command));
    // Watched before it is sent, so that no answer is missed.
    let watched = wish.and_then(|want_up| Some((want_up, watch(dir)?)));
    dir.send(commands)?;
    Ok(watched.is_none_or(|(want_up, inotify)| shown(dir, want_up, &inotify, deadline)))
}

/// Returns whether the service is wanted up after a command, or `None` if the command is no wish.
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
    let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&inotify, dir.path().join(files::SUPERVISE), what).ok()?;
    Some(inotify)
}

fn shown(dir: &ServiceDir, want_up: bool, inotify: &OwnedFd, deadline: Option<Instant>) -> bool {
    loop {
        match poll(&mut [PollFd::new(inotify, PollFlags::IN)], remaining(deadline).as_ref()) {
            Ok(0) => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
        let mut buffer = [MaybeUninit::uninit(); ROOM];
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut replaced = false;
        let gone = loop {
            match reader.next() {
                Ok(event) => {
                    replaced |= event.wd() < 0 || event.file_name() == Some(STATUS);
                    // The directory went away with the service.
                    if event.events().contains(inotify::ReadFlags::IGNORED) {
                        break true;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        if gone || (replaced && dir.status().map_or(true, |status| status.want_up == want_up)) {
            return true;
        }
    }
}
