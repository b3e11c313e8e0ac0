//! *Lives here:* whether a service directory is what the definition makes of it now, and making it so while it is in use.
//!
//! *Does not live here:* what its files hold; telling a supervisor, which reads them at the next start of the service.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_sys::file;
use gatevisor_wire::files;
use rustix::fs::{AtFlags, OFlags, unlinkat};
use rustix::io::Errno;

use super::publish::may_make_slots;
use super::render::optional;
use super::{DATA_AGENT, RenderSlotError, SlotFile, render};
use crate::agent::AgentDefinition;
use crate::files::{commit, make_directory, place, write_beside};
use crate::profile::ProfileName;

/// Bytes of a file of a service directory that are compared; none that we write is longer.
const MAX_BYTES: usize = 64 << 10;

/// What is to be done to a service directory so that it is as the definition has it.
#[derive(Debug, Default)]
pub struct SlotChanges {
    /// Files that are to be written.
    write: Vec<SlotFile>,
    /// Files that are to go.
    remove: Vec<&'static str>,
}

impl SlotChanges {
    /// Returns whether nothing is to be done.
    pub const fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }

    /// Returns whether the log is concerned, whose settings count from the supervisor's next start on.
    pub fn concern_log(&self) -> bool {
        self.write
            .iter()
            .map(|file| file.path)
            .chain(self.remove.iter().copied())
            .any(|path| path.starts_with("log/"))
    }
}

/// Returns how a service directory differs from what the definition makes of it; `None` where we did not make it.
///
/// Whether it is up by default is not the definition's business.
pub fn changes(
    slot: &Path,
    agent: &AgentDefinition,
    name: &ProfileName,
) -> Result<Option<SlotChanges>, RenderSlotError> {
    let Ok(directory) = open(slot) else { return Ok(None) };
    // Hermes' own have another `run`, and nobody's mark.
    let Some(interpreter) = interpreter(&directory).filter(|_| read(&directory, DATA_AGENT).is_some()) else {
        return Ok(None);
    };
    let wanted = render(agent, name, &interpreter, true)?.0;
    let remove = optional()
        .filter(|path| !wanted.iter().any(|file| file.path == *path) && read(&directory, path).is_some())
        .collect();
    let is_old = |file: &SlotFile| read(&directory, file.path).as_deref() != Some(&*file.bytes);
    Ok(Some(SlotChanges { write: wanted.into_iter().filter(is_old).collect(), remove }))
}

/// Returns the interpreter that the first line of `run` names, where that is this program as a service's interpreter.
fn interpreter(slot: &OwnedFd) -> Option<PathBuf> {
    let run = read(slot, files::RUN)?;
    let line = run.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let program = line.strip_suffix(b" service")?;
    Some(PathBuf::from(OsStr::from_bytes(program)))
}

/// Returns what a file holds; no link is followed on the way to it, and nothing is waited for.
fn read(slot: &OwnedFd, path: &str) -> Option<Vec<u8>> {
    let (directory, name) = place(slot.as_fd(), path).ok()?;
    let mut room = vec![0; MAX_BYTES + 1];
    file::read_small(&directory, name, &mut room).ok().map(<[u8]>::to_vec)
}

/// Opens a service directory itself, no link to one.
fn open(slot: &Path) -> Result<OwnedFd, Errno> {
    by_path::open(slot, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// Makes a service directory as the definition has it. Each file changes at one instant, `run` last of all.
pub fn renew(slot: &Path, changes: &SlotChanges) -> io::Result<()> {
    may_make_slots(slot).map_err(io::Error::other)?;
    let directory = open(slot)?;
    let (last, first): (Vec<_>, Vec<_>) = changes.write.iter().partition(|file| file.path == files::RUN);
    for file in first.into_iter().chain(last) {
        write(&directory, file)?;
    }
    for path in &changes.remove {
        let (parent, name) = place(directory.as_fd(), path)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // An empty one asks for a control group still; one that holds anything stays.
    let _ = unlinkat(&directory, files::CGROUP, AtFlags::REMOVEDIR);
    Ok(())
}

fn write(slot: &OwnedFd, file: &SlotFile) -> io::Result<()> {
    if let Some((directory, _)) = file.path.split_once('/') {
        match make_directory(slot.as_fd(), Path::new(directory), 0o755) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let (parent, name) = place(slot.as_fd(), file.path)?;
    let temporary = write_beside(parent.as_fd(), name, &file.bytes, file.mode)?;
    commit(parent.as_fd(), &temporary, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn agent(changed: &str) -> AgentDefinition {
        format!("{}\n{changed}", crate::agent::SMALL).parse().unwrap()
    }

    #[test]
    fn a_directory_that_the_definition_would_make_differently_is_made_so_and_keeps_everything_else() {
        let scandir = tempfile::tempdir().unwrap();
        let name: ProfileName = "coder".parse().unwrap();
        let old = agent("[gateway.restart]\ngive-up-after = 3\n[gateway.confine]\ncgroup = { pids = 9 }");
        let files = render(&old, &name, Path::new("/usr/bin/gatevisor"), false).unwrap();
        drop(super::super::publish(scandir.path(), "gateway-coder", &files).unwrap());
        let slot = scandir.path().join("gateway-coder");
        assert!(changes(&slot, &old, &name).unwrap().unwrap().is_empty());

        let new = agent("[gateway.restart]\nbackoff-first-ms = 7\n[gateway.environment]\nA = \"1\"");
        let found = changes(&slot, &new, &name).unwrap().unwrap();
        let written: Vec<&str> = found.write.iter().map(|file| file.path).collect();
        assert_eq!(written, ["run", "data/backoff-first"]);
        assert_eq!(found.remove, ["data/give-up-after", "cgroup/pids"]);
        assert!(!found.concern_log());
        renew(&slot, &found).unwrap();
        assert!(changes(&slot, &new, &name).unwrap().unwrap().is_empty());
        assert!(slot.join("down").exists() && !slot.join("cgroup").exists());
        let names: Vec<_> = fs::read_dir(&slot).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!names.iter().any(|name| name.as_bytes().starts_with(b".")), "{names:?}");
    }

    #[test]
    fn what_we_did_not_make_is_left_alone() {
        let scandir = tempfile::tempdir().unwrap();
        let slot = scandir.path().join("gateway-coder");
        let found = || changes(&slot, &agent(""), &"coder".parse().unwrap()).unwrap();
        assert!(found().is_none());
        fs::create_dir(&slot).unwrap();
        fs::write(slot.join("run"), "#!/bin/sh\nexec hermes\n").unwrap();
        assert!(found().is_none());
    }
}
