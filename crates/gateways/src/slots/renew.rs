//! *Lives here:* whether a service directory is as the definition would make it now, and changing
//! it while it is in use.
//!
//! *Does not live here:* the content of its files; telling a supervisor, which reads them at the
//! next start of the service.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_sys::proc::Process;
use gatevisor_sys::refused::is_refusal;
use gatevisor_wire::Pid;
use gatevisor_wire::exit::{Exit, ExitError};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::open::OpenSlot;
use super::publish::may_make_slots;
use super::render::optional;
use super::{DATA_AGENT, DATA_OLDER_PROCESS, RenderSlotError, SlotFile, SlotFiles, render};
use crate::agent::{AgentDefinition, Placeholders, fill};
use crate::files::{commit, make_directory, place, write_beside};
use crate::manager::LookError;
use crate::profile::ProfileName;

/// The changes that make a service directory as the definition has it.
#[derive(Debug, Default)]
pub struct SlotChanges {
    /// Files to write.
    write: Vec<SlotFile>,
    /// Files to remove.
    remove: Vec<&'static str>,
}

impl SlotChanges {
    /// Returns whether there is nothing to change.
    pub const fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }

    /// Returns whether a process that runs already is affected, which is as the directory was when
    /// it was started. The files in `data` are read when they are needed.
    fn concern_process(&self) -> bool {
        let paths = self.write.iter().map(|file| file.path).chain(self.remove.iter().copied());
        paths.into_iter().any(|path| !path.starts_with("log/") && !path.starts_with("data/"))
    }

    /// Returns whether the log is affected. Its settings hold from the supervisor's next start.
    pub fn concern_log(&self) -> bool {
        self.write
            .iter()
            .map(|file| file.path)
            .chain(self.remove.iter().copied())
            .any(|path| path.starts_with("log/"))
    }
}

/// Why nobody can tell how a service directory differs from the definition.
#[derive(Debug, thiserror::Error)]
pub enum SlotChangesError {
    /// The definition makes none.
    #[error(transparent)]
    Render(#[from] RenderSlotError),
    /// It may not be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
}

impl ExitError for SlotChangesError {
    fn exit(&self) -> Exit {
        match self {
            Self::Render(error) => error.exit(),
            Self::Look(error) => error.exit(),
        }
    }
}

/// Returns how a service directory differs from what the definition would make; `None` if we did
/// not make it.
///
/// Whether it is up by default is not decided by the definition.
pub fn changes(
    slot: &Path,
    agent: &AgentDefinition,
    name: &ProfileName,
) -> Result<Option<SlotChanges>, SlotChangesError> {
    changes_of(&OpenSlot::at(slot), slot, agent, name)
}

/// Does the same for a service directory that was opened, as far as that was possible.
pub fn changes_of(
    opened: &Result<OpenSlot, Errno>,
    slot: &Path,
    agent: &AgentDefinition,
    name: &ProfileName,
) -> Result<Option<SlotChanges>, SlotChangesError> {
    let refused = |errno| SlotChangesError::Look(LookError::at(slot, errno));
    let directory = match opened {
        Ok(directory) => directory,
        Err(errno) if is_refusal(*errno) => return Err(refused(*errno)),
        Err(_) => return Ok(None),
    };
    let read = |path: &str| match directory.read(path) {
        Err(errno) if is_refusal(errno) => Err(refused(errno)),
        read => Ok(read.ok()),
    };
    // A service directory that Hermes makes itself has another `run`, and no file of ours.
    let (owner, run) = (read(DATA_AGENT)?, read(files::RUN)?);
    let Some(interpreter) = run.as_deref().and_then(interpreter).filter(|_| owner.is_some()) else {
        return Ok(None);
    };
    let wanted = render(agent, name, &interpreter, true)?.0;
    let mut changes = SlotChanges::default();
    for path in optional().filter(|path| !wanted.iter().any(|file| file.path == *path)) {
        changes.remove.extend(read(path)?.map(|_| path));
    }
    for file in wanted {
        let is_so = match file.path {
            DATA_AGENT => owner.as_deref() == Some(&*file.bytes),
            files::RUN => run.as_deref() == Some(&*file.bytes),
            path => match directory.has(path, &file.bytes) {
                Err(errno) if is_refusal(errno) => return Err(refused(errno)),
                is_so => is_so.unwrap_or(false),
            },
        };
        if !is_so {
            changes.write.push(file);
        }
    }
    Ok(Some(changes))
}

/// Returns what makes a service directory that another program made for a profile's gateway one
/// that we made; `None` if it is one already, or if its `run` is not the agent's own command.
///
/// Without that, nobody follows the gateway, and none of its limits holds.
pub fn adoption(
    slot: &Path,
    agent: &AgentDefinition,
    name: &ProfileName,
    program: &Path,
) -> Result<Option<SlotChanges>, RenderSlotError> {
    let Ok(directory) = OpenSlot::at(slot) else { return Ok(None) };
    // Every start asks this, and nearly every slot is ours.
    let run = directory.read(files::RUN).ok();
    if run.as_deref().and_then(interpreter).is_some() || directory.read(DATA_AGENT).is_ok() {
        return Ok(None);
    }
    let words = agent_words(agent, name)?;
    let is_agents = |run: Vec<u8>| words.is_some_and(|words| String::from_utf8_lossy(&run).contains(&words));
    if !run.is_some_and(is_agents) {
        return Ok(None);
    }
    let SlotFiles(write) = render(agent, name, program, true)?;
    Ok(Some(SlotChanges { write, remove: Vec::new() }))
}

/// Returns the words after the program in the command of a profile's gateway, as a script writes
/// them; `None` if there are too few of them to recognize it.
fn agent_words(agent: &AgentDefinition, name: &ProfileName) -> Result<Option<String>, RenderSlotError> {
    let gateway = &agent.gateway;
    let command = if name.is_root() { &gateway.command_default } else { &gateway.command_named };
    let placeholders = Placeholders::new(name, &agent.home_variable());
    let words = command.iter().skip(1).map(|word| fill(word, &placeholders));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let is_plain = words.len() > 1 && !words.iter().any(|word| word.contains([' ', '$', '{']));
    Ok(is_plain.then(|| format!(" {}", words.join(" "))))
}

/// Returns the interpreter in the first line of `run`, if that is this program.
fn interpreter(run: &[u8]) -> Option<PathBuf> {
    let line = run.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let program = line.strip_suffix(b" service")?;
    Some(PathBuf::from(OsStr::from_bytes(program)))
}

/// Changes a service directory as the definition has it. Each file changes at one instant, `run`
/// last.
///
/// `running` is the process that runs from the directory as it was. That is noted first: if the
/// changes are interrupted, the process is older than some of them.
pub fn renew(slot: &Path, changes: &SlotChanges, running: Option<Pid>) -> io::Result<()> {
    may_make_slots(slot).map_err(io::Error::other)?;
    let directory = OpenSlot::at(slot)?;
    let running = running.filter(|_| changes.concern_process()).map(Pid::get);
    if let Some(process) = running.and_then(Process::of) {
        let bytes = older_note(&process).into_bytes();
        write(&directory, &SlotFile { path: DATA_OLDER_PROCESS, bytes, mode: 0o644 })?;
    }
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
    // An empty directory would still request a control group. One that has entries stays.
    let _ = unlinkat(&directory, files::CGROUP, AtFlags::REMOVEDIR);
    Ok(())
}

/// Returns the note that this process runs from what its service directory was.
fn older_note(process: &Process) -> String {
    format!("{} {}\n", process.pid, process.began)
}

/// Returns whether a process runs from what a service directory was before it was changed.
pub fn runs_older(slot: &Path, running: Option<Pid>) -> bool {
    OpenSlot::at(slot).is_ok_and(|slot| is_older_process(&slot, running))
}

/// Does the same for an opened service directory.
pub fn is_older_process(slot: &OpenSlot, running: Option<Pid>) -> bool {
    let Some(pid) = running.map(Pid::get) else { return false };
    // Mostly there is no note, and the process need not be looked at.
    let Ok(noted) = slot.read(DATA_OLDER_PROCESS) else { return false };
    Process::of(pid).is_some_and(|process| noted == older_note(&process).as_bytes())
}

fn write(slot: &OpenSlot, file: &SlotFile) -> io::Result<()> {
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
        renew(&slot, &found, None).unwrap();
        assert!(changes(&slot, &new, &name).unwrap().unwrap().is_empty());
        assert!(slot.join("down").exists() && !slot.join("cgroup").exists());
        let names: Vec<_> = fs::read_dir(&slot).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!names.iter().any(|name| name.as_bytes().starts_with(b".")), "{names:?}");
    }

    #[test]
    fn a_directory_that_the_agent_made_for_its_gateway_is_made_ours_and_another_is_left_alone() {
        let scandir = tempfile::tempdir().unwrap();
        let slot = scandir.path().join("gateway-coder");
        let (name, program) = ("coder".parse().unwrap(), Path::new("/usr/bin/gatevisor"));
        let agent = AgentDefinition::built_in().unwrap();
        let adopted = || adoption(&slot, &agent, &name, program).unwrap();
        assert!(adopted().is_none());
        fs::create_dir(&slot).unwrap();
        let run = |text: &str| fs::write(slot.join("run"), format!("#!/bin/sh\nexec {text}\n")).unwrap();
        for other in ["sleep 1000", "hermes -p writer gateway run --replace"] {
            run(other);
            assert!(adopted().is_none(), "{other}");
        }
        run("s6-setuidgid hermes hermes -p coder gateway run --replace");
        fs::write(slot.join("down"), "").unwrap();
        renew(&slot, &adopted().unwrap(), None).unwrap();
        assert!(changes(&slot, &agent, &name).unwrap().unwrap().is_empty());
        assert!(slot.join("down").exists() && adopted().is_none());
    }

    #[test]
    fn a_process_that_is_older_than_a_change_is_noted_also_if_the_change_is_not_finished() {
        let scandir = tempfile::tempdir().unwrap();
        let name: ProfileName = "coder".parse().unwrap();
        let files = render(&agent(""), &name, Path::new("/usr/bin/gatevisor"), false).unwrap();
        drop(super::super::publish(scandir.path(), "gateway-coder", &files).unwrap());
        let slot = scandir.path().join("gateway-coder");
        let running = Pid::new(std::process::id().cast_signed());
        let in_data = agent("[gateway.restart]\ngive-up-after = 3");
        renew(&slot, &changes(&slot, &in_data, &name).unwrap().unwrap(), running).unwrap();
        assert!(!runs_older(&slot, running), "it concerns no process");
        let found = changes(&slot, &agent("[gateway.environment]\nA = \"1\""), &name).unwrap().unwrap();
        // Nothing can take the place of a directory that has entries.
        fs::remove_file(slot.join("run")).unwrap();
        fs::create_dir_all(slot.join("run/in-the-way")).unwrap();
        assert!(renew(&slot, &found, running).is_err());
        assert!(runs_older(&slot, running) && !runs_older(&slot, Pid::new(1)));
    }

    #[test]
    fn a_service_directory_that_we_did_not_make_is_left_alone() {
        let scandir = tempfile::tempdir().unwrap();
        let slot = scandir.path().join("gateway-coder");
        let found = || changes(&slot, &agent(""), &"coder".parse().unwrap()).unwrap();
        assert!(found().is_none());
        fs::create_dir(&slot).unwrap();
        fs::write(slot.join("run"), "#!/bin/sh\nexec hermes\n").unwrap();
        assert!(found().is_none());
    }
}
