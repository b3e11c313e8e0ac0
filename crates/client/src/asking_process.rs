//! *Lives here:* recording which process asked, when a service's own process sends its service a
//! command.
//!
//! *Does not live here:* the use of the record: ending a service's survivors spares these processes
//! (`gatevisor-slot`).
//!
//! An agent that runs `gatevisor gateway restart` on its own gateway is a survivor of that gateway
//! a moment later. So the client records itself and its ancestors before it sends the command.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::{file, proc::Process};
use gatevisor_wire::{files, member, member::Member};
use rustix::fs::{Mode, fstat};
use rustix::io::Errno;

/// The longest record in bytes.
const NOTE_BYTES: usize = 4096;
/// The most ancestors of one process that are recorded.
const LINE: usize = 64;

/// Records the asking process, if it belongs to the service at `path`, whose process is `leader`.
/// `open` opens the service directory.
pub(crate) fn note<D: AsFd>(
    path: &Path,
    open: impl Fn() -> Result<D, Errno>,
    leader: impl FnOnce() -> Option<i32>,
) {
    let Some(value) = std::env::var_os(member::VARIABLE) else { return };
    let is_own = Member::parse(value.as_bytes()).is_some_and(|member| is_of(&member, path, &open));
    if is_own {
        // A process that cannot write there does not run as the service's user, so nobody would end
        // it.
        let _ = open().and_then(|directory| write(directory, leader()));
    }
}

fn is_of<D: AsFd>(member: &Member<'_>, path: &Path, open: impl Fn() -> Result<D, Errno>) -> bool {
    // A path such as `.` holds no name, and a path through a link holds another one. So the kernel
    // is asked for the real path.
    let Some(whole) = open().ok().and_then(|directory| by_path::path_of(directory).ok()) else {
        return false;
    };
    let name = path.file_name().or_else(|| whole.file_name());
    let is_named = name.is_some_and(|name| name.as_bytes() == member.name);
    let scandir = whole.parent().and_then(|parent| by_path::directory(parent).ok());
    let identity = scandir.and_then(|scandir| file::lasting_identity(scandir, "").ok());
    is_named && identity.is_some_and(|identity| identity.as_bytes() == member.scandir)
}

fn write(directory: impl AsFd, leader: Option<i32>) -> Result<(), Errno> {
    if fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let (folder, name) = files::ASKED_BY.split_once('/').unwrap_or((files::DATA, files::ASKED_BY));
    let data = file::open_directory(directory, folder)?;
    let mut buffer = [0; NOTE_BYTES];
    let noted = file::read_small(&data, name, &mut buffer).unwrap_or_default();
    let mut text = String::new();
    for (pid, began) in earlier(noted).into_iter().chain(line(leader)).collect::<BTreeSet<_>>() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{pid} {began}");
    }
    text.truncate(NOTE_BYTES);
    file::replace(&data, name, &format!(".{name}.tmp"), text.as_bytes(), Mode::from_raw_mode(0o600))
}

/// Returns the processes that asked before and still exist.
fn earlier(noted: &[u8]) -> Vec<(i32, u64)> {
    let parse = |line: &[u8]| {
        let (pid, began) = str::from_utf8(line).ok()?.split_once(' ')?;
        Some((pid.parse::<i32>().ok()?, began.parse::<u64>().ok()?))
    };
    let is_there =
        |(pid, began): &(i32, u64)| Process::of(*pid).is_some_and(|process| process.began == *began);
    noted.split(|&byte| byte == b'\n').filter_map(parse).filter(is_there).collect()
}

/// Returns this process and its ancestors, up to the service's own process.
fn line(leader: Option<i32>) -> Vec<(i32, u64)> {
    let mut at = rustix::process::getpid().as_raw_nonzero().get();
    let mut line = Vec::new();
    while line.len() < LINE
        && at > 1
        && Some(at) != leader
        && let Some(process) = Process::of(at)
    {
        line.push((process.pid, process.began));
        at = process.parent;
    }
    line
}
