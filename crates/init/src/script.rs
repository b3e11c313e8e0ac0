//! The scripts of a service directory: whether they may be executed, and why one was not.
//!
//! *Lives here:* whose scripts are trusted, which are ours to interpret, the words for a failed
//! start.
//! *Does not live here:* starting them (`spawner`).

use std::os::fd::AsFd;

use gatevisor_sys::spawn::{self, Isolation, StartFailure};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::script::Flaw;
use rustix::fs::{AtFlags, FileType, statat};

use crate::directory;
use crate::service::SupervisedService;
use crate::settings;
use crate::stderr_log::say;

/// The file below `supervise/` that is locked where `lock-fd` says so.
const SERVICE_LOCK: &str = "service-lock";
/// Bytes of a script that are enough to know its interpreter.
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

/// Returns whether a directory with this owner has still the one that its programs run as: `user`,
/// or `ours` where that is `None`.
fn is_still_of(owner: u32, user: Option<&User>, ours: u32) -> bool {
    user.map_or(owner == ours || owner == 0, |user| user.uid == owner)
}

/// Returns an error unless `script` is a regular file of root, of us or of the directory's owner,
/// and nobody else may write to it.
pub(crate) fn trusted(service: &SupervisedService, script: &str) -> Result<(), UntrustedScript> {
    let stat = statat(&service.dir, script, AtFlags::SYMLINK_NOFOLLOW)?;
    let owner = rustix::fs::fstat(&service.dir)?.st_uid;
    let ours = directory::our_user();
    if !is_still_of(owner, service.owner.as_deref(), ours) {
        return Err(UntrustedScript::NewOwner(owner));
    }
    if stat.st_uid != 0 && stat.st_uid != owner && stat.st_uid != ours {
        return Err(UntrustedScript::Stranger(stat.st_uid));
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_symlink() {
        // Whose link it is decides; what it points to is that user's choice.
        return Ok(());
    }
    if !kind.is_file() {
        return Err(Errno::ACCESS.into());
    }
    if directory::writable_by_others(&stat, service.owner.as_deref()) {
        return Err(UntrustedScript::WritableByOthers(stat.st_mode & 0o7777));
    }
    Ok(())
}

/// Returns what the small files of a service say about how its process is isolated, or why they
/// contradict themselves.
pub(crate) fn isolation(
    service: &SupervisedService,
    name: &str,
    notification: Option<i32>,
) -> Result<Isolation, String> {
    let lock = settings::number(&service.dir, name, files::LOCK_FD).and_then(|n| i32::try_from(n).ok());
    if lock.is_some() {
        if lock == notification {
            return Err("passing descriptors to ./run: notification-fd and lock-fd are the same; change one"
                .to_owned());
        }
        if statat(&service.supervise, SERVICE_LOCK, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_size > 0)
        {
            say!(
                "warning: {name}: something was written to ./supervise/{SERVICE_LOCK}, which is only there to be locked"
            );
        }
    }
    let pid_namespace = statat(&service.dir, files::FLAG_NEWPIDNS, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    Ok(Isolation { lock, pid_namespace })
}

pub(crate) fn explain(script: &str, failure: StartFailure) -> String {
    if failure.step == spawn::StartStep::Lock {
        return format!("locking ./supervise/{SERVICE_LOCK}: {}", said(failure.errno));
    }
    format!("{} ./{script}: {}", failure.step.words(), said(failure.errno))
}

/// Returns why a script of a service was not executed; where the reason is one that no editor
/// shows, that too.
pub(crate) fn explain_in(service: &SupervisedService, script: &'static str, failure: StartFailure) -> String {
    let why = explain(script, failure);
    let is_hidden = matches!(failure.errno, Errno::NOENT | Errno::NOEXEC);
    let mut head = [0; SHEBANG_BYTES];
    let flaw = is_hidden
        .then(|| file::read_small(&service.dir, script, &mut head).ok())
        .flatten()
        .and_then(Flaw::of);
    flaw.map_or(why.clone(), |flaw| format!("{why}: {}; fix that: {} {script}", flaw.words(), flaw.fix()))
}

/// Returns whether a script begins like one whose interpreter is `program`, called with `verb`.
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
    let text = errno.to_string();
    let words = text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    format!("{words} (errno {})", errno.raw_os_error())
}
