//! The scripts of a service directory: whether they may be executed, and why one was not.
//!
//! *Lives here:* examining scripts, recognizing our own interpreter, the words for a failed start.
//! *Does not live here:* whose scripts are trusted (`gatevisor_core::trust`), and starting them
//! (`spawner`).

use std::os::fd::AsFd;

use gatevisor_core::launch;
use gatevisor_core::trust::{self, ScriptDistrust, ScriptKind};
use gatevisor_sys::spawn::{self, Isolation, StartFailure};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::files;
use gatevisor_wire::script::Flaw;
use rustix::fs::{AtFlags, FileType, statat};

use crate::directory;
use crate::service::SupervisedService;
use crate::settings;
use crate::stderr_log::say;

/// The file below `supervise/` that is locked if there is a `lock-fd`.
const SERVICE_LOCK: &str = "service-lock";
/// Enough bytes of a script to recognize its interpreter.
pub(crate) const SHEBANG_BYTES: usize = 256;

/// Why a script is not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UntrustedScript {
    #[error("{}", said(*.0))]
    Errno(Errno),
    #[error(
        "its directory was given to uid {0} while it was supervised; take it out of the scandir and put it back"
    )]
    NewOwner(u32),
    #[error("it belongs to uid {0}, neither root nor the owner of its directory")]
    Stranger(u32),
    #[error("others than its owner may write to it (mode {0:04o}); remove that permission")]
    WritableByOthers(u32),
}

impl From<Errno> for UntrustedScript {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<ScriptDistrust> for UntrustedScript {
    fn from(distrust: ScriptDistrust) -> Self {
        match distrust {
            ScriptDistrust::NewOwner(uid) => Self::NewOwner(uid),
            ScriptDistrust::Stranger(uid) => Self::Stranger(uid),
            ScriptDistrust::WrongKind => Self::Errno(Errno::ACCESS),
            ScriptDistrust::WritableByOthers(mode) => Self::WritableByOthers(mode),
        }
    }
}

/// Returns an error if a script of a service is missing or not trusted.
pub(crate) fn trusted(service: &SupervisedService, script: &str) -> Result<(), UntrustedScript> {
    let stat = statat(service.dir(), script, AtFlags::SYMLINK_NOFOLLOW)?;
    let owner = rustix::fs::fstat(service.dir())?.st_uid;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => ScriptKind::Link,
        FileType::RegularFile => ScriptKind::File,
        _ => ScriptKind::Other,
    };
    let user = service.owner().map(directory::principal);
    match trust::distrust((directory::ownership(&stat), kind), owner, user, directory::ourselves()) {
        None => Ok(()),
        Some(distrust) => Err(distrust.into()),
    }
}

/// Returns how the small files of a service isolate its process, or why they contradict each other.
pub(crate) fn isolation(
    service: &SupervisedService,
    name: &str,
    notification: Option<i32>,
) -> Result<Isolation, String> {
    let lock = settings::descriptor(service, files::LOCK_FD);
    if let Some(why) = launch::descriptor_conflict(notification, lock) {
        return Err(why.to_owned());
    }
    let lock_stat = || statat(service.supervise(), SERVICE_LOCK, AtFlags::SYMLINK_NOFOLLOW);
    if lock.is_some() && lock_stat().is_ok_and(|stat| stat.st_size > 0) {
        say!(
            "warning: {name}: something was written to ./supervise/{SERVICE_LOCK}, which is only there to be locked"
        );
    }
    let pid_namespace = service.has_file(files::FLAG_NEWPIDNS);
    Ok(Isolation { lock, pid_namespace })
}

pub(crate) fn explain(script: &str, failure: StartFailure) -> String {
    if failure.step == spawn::StartStep::Lock {
        return format!("locking ./supervise/{SERVICE_LOCK}: {}", said(failure.errno));
    }
    format!("{} ./{script}: {}", failure.step.words(), said(failure.errno))
}

/// Returns why a script of a service was not executed, including a reason that no editor shows.
pub(crate) fn explain_in(service: &SupervisedService, script: &'static str, failure: StartFailure) -> String {
    let why = explain(script, failure);
    let is_hidden = matches!(failure.errno, Errno::NOENT | Errno::NOEXEC);
    let mut head = [0; SHEBANG_BYTES];
    let flaw = is_hidden
        .then(|| file::read_small(service.dir(), script, &mut head).ok())
        .flatten()
        .and_then(Flaw::of);
    flaw.map_or(why.clone(), |flaw| format!("{why}: {}; fix that: {} {script}", flaw.words(), flaw.fix()))
}

/// Returns whether a script's beginning names `program` as its interpreter, called with `verb`.
pub(crate) fn begins_as(head: &[u8], program: &[u8], verb: &str) -> bool {
    let Some(line) = head.split(|&b| b == b'\n').next().and_then(|line| line.strip_prefix(b"#!")) else {
        return false;
    };
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next() == Some(program) && words.next() == Some(verb.as_bytes()) && words.next().is_none()
}

/// Returns whether the interpreter of a script is `program`, called with `verb`.
pub(crate) fn is_run_by(dir: impl AsFd, script: &str, program: &[u8], verb: &str) -> bool {
    let mut head = [0; SHEBANG_BYTES];
    file::read_small(dir, script, &mut head).is_ok_and(|head| begins_as(head, program, verb))
}

/// Returns the words for an error number, and the number.
fn said(errno: Errno) -> String {
    format!("{} (errno {})", error_chain(&errno), errno.raw_os_error())
}
