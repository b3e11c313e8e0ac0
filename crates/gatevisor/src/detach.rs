//! `gatevisor up --detach`: a supervisor in the background.
//!
//! *Lives here:* its process, the file for its messages, and waiting until it supervises.
//! *Does not live here:* its preparation (`up`), and its end (`down`).
//!
//! The output of gateways goes only to their logs. The messages of the supervisor and the watchers
//! go to a file beside the boot log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_sys::process;
use rustix::fs::{Mode, OFlags, fstat, openat, renameat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, setsid, waitpid};

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};

/// The name of the file with the messages of a supervisor in the background.
const FILE: &str = "supervisor.log";
/// The name of the previous file.
const OLD_FILE: &str = "supervisor.log.1";
/// If the file has at least this many bytes, it is renamed before a supervisor begins.
const ROTATE_BYTES: i64 = 262_144;
/// The last bytes of the file, in which the reason of a failure is searched.
const TAIL_BYTES: i64 = 4096;

/// Runs `supervise` as a supervisor in a separate process, and returns that process once it
/// supervises.
///
/// `supervise` gets the descriptor for the notification, and returns only if it fails.
pub fn supervisor(
    context: &CommandContext,
    supervise: impl FnOnce(&OwnedFd) -> CommandError,
) -> Result<Pid, CommandError> {
    let failed =
        |what: &str, errno: Errno| CommandError::new(Exit::System, format!("cannot {what}: {errno}"));
    let path = log_path(context);
    let log = open_log(&path).map_err(|errno| failed(&format!("open `{}`", path.display()), errno))?;
    let began = fstat(&log).map_or(0, |stat| stat.st_size);
    let (mut notified, notify) = pipe_with(PipeFlags::CLOEXEC)
        .map(|(reader, writer)| (File::from(reader), writer))
        .map_err(|errno| failed("make a pipe", errno))?;
    let child = process::fork_child(|| {
        let error = match leave(&log, &notify) {
            Ok(()) => supervise(&notify),
            Err(errno) => failed("leave the terminal", errno),
        };
        i32::from(crate::out::fail(&error))
    });
    let child = child.map_err(|errno| failed("fork", errno))?;
    drop(notify);
    match notified.read(&mut [0]) {
        Ok(1..) => Ok(child),
        // The process has ended, or has closed the descriptor.
        _ => Err(not_begun(child, &log, began, &path)),
    }
}

/// Returns the file with the messages of a supervisor in the background.
fn log_path(context: &CommandContext) -> PathBuf {
    let manager = &context.manager;
    manager.home().root().join(&manager.agent().gateway.boot_log).with_file_name(FILE)
}

/// Opens the file, after renaming one that is too long.
fn open_log(path: &Path) -> Result<OwnedFd, Errno> {
    let (directory, name) = by_path::parent(path)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(&directory, name, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR);
    let file = open()?;
    if fstat(&file)?.st_size < ROTATE_BYTES {
        return Ok(file);
    }
    renameat(&directory, name, &directory, OLD_FILE)?;
    open()
}

/// Makes this process independent of the terminal, and keeps the descriptor for the notification
/// open at exec.
fn leave(log: &OwnedFd, notify: &OwnedFd) -> Result<(), Errno> {
    setsid()?;
    let null = by_path::open("/dev/null", OFlags::RDWR)?;
    rustix::stdio::dup2_stdin(&null)?;
    // On standard output, a log daemon shows lines of gateways, which would fill a file that nobody
    // rotates.
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(log.as_fd())?;
    fcntl_setfd(notify, FdFlags::empty())
}

/// Returns the error for a supervisor that ended before it supervised, with its last messages.
fn not_begun(child: Pid, log: &OwnedFd, began: i64, path: &Path) -> CommandError {
    let ended = loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => break status.exit_status(),
            Ok(None) | Err(_) => break None,
        }
    };
    let code = ended.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    let message =
        format!("the supervisor ended before it supervised; what it said is in `{}`", path.display());
    let mut failure = CommandError::new(Exit::System, message).with_lines(said_since(log, began));
    failure.code = code.unwrap_or(failure.code);
    failure
}

fn said_since(log: &OwnedFd, began: i64) -> Vec<String> {
    let Ok(mut file) = log.try_clone().map(File::from) else { return Vec::new() };
    let end = fstat(log).map_or(0, |stat| stat.st_size);
    let tail = end.saturating_sub(TAIL_BYTES);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(u64::try_from(began.max(tail)).unwrap_or(0)))
        .and_then(|_| file.read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    // If there was more output, the first line is cut off at its beginning.
    let cut = usize::from(tail > began);
    String::from_utf8_lossy(&bytes).lines().skip(cut).map(str::to_owned).collect()
}
