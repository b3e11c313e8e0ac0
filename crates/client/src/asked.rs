//! *Lives here:* saying who asked, where a service is told something by one of its own processes.
//!
//! *Does not live here:* what is done with that: what ends a service's survivors leaves those alone (`gatevisor-slot`).
//!
//! An agent that runs `gatevisor gateway restart` on its own gateway is a survivor of it a moment later. So it notes
//! itself, and what it descends from, beside the command.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use gatevisor_paths::by_path;
use gatevisor_sys::{file, proc::Process};
use gatevisor_wire::{files, member, member::Member};
use rustix::fs::{Mode, fstat};

use crate::ServiceDir;

/// Bytes of the note at the most.
const NOTE_BYTES: usize = 4096;
/// Processes of one line of descent that are noted.
const LINE: usize = 64;

/// Notes who asks, if that belongs to the service at `dir`, whose process is `leader`.
pub(crate) fn note(dir: &ServiceDir, leader: impl FnOnce() -> Option<i32>) {
    let Some(value) = std::env::var_os(member::VARIABLE) else { return };
    let is_own = Member::parse(value.as_bytes()).is_some_and(|member| is_of(&member, dir));
    if is_own {
        // Whoever cannot write there is no process of the service's user, who alone could end it.
        let _ = write(dir, leader());
    }
}

fn is_of(member: &Member<'_>, dir: &ServiceDir) -> bool {
    // A path such as `.` names nothing, and one through a link something else: the kernel knows what it leads to.
    let Some(whole) = dir.directory().ok().and_then(|directory| by_path::path_of(directory).ok()) else {
        return false;
    };
    let name = dir.path().file_name().or_else(|| whole.file_name());
    let is_named = name.is_some_and(|name| name.as_bytes() == member.name);
    let scandir = whole.parent().and_then(|parent| by_path::directory(parent).ok());
    let identity = scandir.and_then(|scandir| file::lasting_identity(scandir, "").ok());
    is_named && identity.is_some_and(|identity| identity.as_bytes() == member.scandir)
}

fn write(dir: &ServiceDir, leader: Option<i32>) -> Result<(), rustix::io::Errno> {
    let directory = dir.directory()?;
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

/// Returns those who asked before and are still there.
fn earlier(noted: &[u8]) -> Vec<(i32, u64)> {
    let parse = |line: &[u8]| {
        let (pid, began) = str::from_utf8(line).ok()?.split_once(' ')?;
        Some((pid.parse::<i32>().ok()?, began.parse::<u64>().ok()?))
    };
    let is_there =
        |(pid, began): &(i32, u64)| Process::of(*pid).is_some_and(|process| process.began == *began);
    noted.split(|&byte| byte == b'\n').filter_map(parse).filter(is_there).collect()
}

/// Returns this process and what it descends from, up to the service's own process.
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
