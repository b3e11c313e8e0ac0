//! This crate's calls to the kernel, in one place.
//!
//! *Lives here:* thin calls into `gatevisor-sys` and rustix. *Does not live here:* any decision.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gatevisor_term::stream;
use gatevisor_wire::Pid;
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::started::{Announcer, StartMark};
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat, readlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

pub use gatevisor_sys::process::{adopt_fd, exec_search, fork_detached};
pub use gatevisor_sys::user::{LookupError, assume, lookup};

/// The content of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// Its bytes, up to the limit and one more.
    pub bytes: Vec<u8>,
    /// The user who owns it.
    pub owner: u32,
}

/// Returns the contents of a regular file: at most `limit` bytes and one more, which shows that
/// there is more.
///
/// Opening does not wait, so a FIFO in place of the file cannot delay us.
///
/// # Errors
/// `EINVAL` if it is not a regular file.
pub fn read_file(path: &Path, limit: u64) -> io::Result<ReadFile> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    let stat = fstat(&file)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL.into());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(2));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(ReadFile { bytes, owner: stat.st_uid })
}

/// Returns the present working directory as a descriptor that outlives a change of directory.
pub fn here() -> Result<OwnedFd, Errno> {
    openat(CWD, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Replaces `data/<name>` below `directory`, and makes `data` if necessary; never through a
/// symbolic link.
pub fn replace_in_data(directory: impl AsFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let data = match gatevisor_sys::file::open_directory(&directory, c"data") {
        Err(Errno::NOENT) => {
            mkdirat(&directory, c"data", Mode::from_raw_mode(0o755))?;
            gatevisor_sys::file::open_directory(&directory, c"data")?
        }
        other => other?,
    };
    let temporary = format!(".{name}.tmp");
    gatevisor_sys::file::replace(&data, name, &temporary, bytes, Mode::from_raw_mode(0o644))
}

/// Does the same as [`replace_in_data`] for a file that matters only in this life, and does not
/// wait for a disk.
pub fn publish_in_data(directory: impl AsFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let data = gatevisor_sys::file::open_directory(&directory, c"data")?;
    let temporary = format!(".{name}.tmp");
    gatevisor_sys::file::publish(&data, name, &temporary, bytes, Mode::from_raw_mode(0o644))
}

/// Returns `data/<name>` below `directory`, locked, and writes to it our process number and who
/// announces the service's readiness.
///
/// The lock ends when this process ends or executes another program. Returns `None` while another
/// process holds it.
pub fn mark_in_data(
    directory: impl AsFd,
    name: &str,
    announcer: Announcer,
) -> Result<Option<OwnedFd>, Errno> {
    let data = gatevisor_sys::file::open_directory(&directory, c"data")?;
    let Some(marked) = gatevisor_sys::file::lock(data, name)? else { return Ok(None) };
    // One write, so that a reader finds the old number or the new one. The rest of an old one
    // follows the newline.
    let Some(pid) = own_pid() else { return Ok(None) };
    rustix::io::write(&marked, StartMark { pid, announcer: Some(announcer) }.encode().as_bytes())?;
    Ok(Some(marked))
}

/// Returns our process number as our supervisor knows it.
///
/// The first process of a PID namespace has number 1 for itself, but `/proc` still belongs to the
/// namespace outside.
pub fn own_pid() -> Option<Pid> {
    let own = Pid::new(getpid().as_raw_nonzero().get()).filter(|pid| pid.get() != 1);
    own.or_else(|| {
        let link = readlinkat(CWD, c"/proc/self", Vec::new()).ok()?;
        Pid::new(link.to_str().ok()?.parse().ok()?)
    })
}

/// Removes `data/<name>` below `directory`. It is no error if it is missing.
pub fn remove_in_data(directory: impl AsFd, name: &str) -> Result<(), Errno> {
    let removed = gatevisor_sys::file::open_directory(&directory, c"data")
        .and_then(|data| unlinkat(&data, name, rustix::fs::AtFlags::empty()));
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Returns a descriptor that becomes readable when this process ends, whatever it executes
/// meanwhile.
pub fn own_pidfd() -> Result<OwnedFd, Errno> {
    pidfd_open(getpid(), PidfdFlags::empty())
}

/// Makes standard error a duplicate of standard output.
#[expect(clippy::disallowed_methods, reason = "nothing is written to it here")]
pub fn join_stderr_to_stdout() -> Result<(), Errno> {
    rustix::stdio::dup2_stderr(stream::stdout_fd())
}

/// Redirects the three standard descriptors to `/dev/null`, best effort.
pub fn let_go_of_stdio() {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(null) = openat(CWD, c"/dev/null", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Returns this process's environment as `NAME=VALUE` strings, without those for which `skip` is
/// true.
pub fn environment_without(skip: impl Fn(&[u8]) -> bool) -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt;
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            if skip(&pair) {
                return None;
            }
            pair.push(b'=');
            pair.append(&mut value.into_vec());
            CString::new(pair).ok()
        })
        .collect()
}

/// Writes a line for people to standard error, best effort.
pub fn say(line: &str) {
    stream::say(line);
}

/// Writes a line for people to standard output, best effort.
pub fn say_to_stdout(line: &str) {
    let _ = stream::print(line);
}

/// Returns the words for an error number, without the number.
pub fn words(errno: Errno) -> String {
    error_chain(&io::Error::from(errno))
}
