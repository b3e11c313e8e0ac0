//! `gatevisor reconcile`: makes the slots fit the profiles and their desired states.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;

use gatevisor_gateways::reconcile::{ReconcileError, ReconcileReport, ReconcileSettings, reconcile};
use gatevisor_gateways::slots::may_make_slots;
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use gatevisor_wire::files;
use jiff::Zoned;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::container_scandir::variable;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;

/// Reconciles, or prints what that would do.
pub fn run(context: &CommandContext, dry_run: bool) -> Outcome {
    let claim = if dry_run { ScandirClaim::Ours(None) } else { claim(context)? };
    if matches!(claim, ScandirClaim::Taken) {
        let error = ReconcileError::Supervised { scandir: context.manager.scandir().to_owned() };
        return Err(CommandError::from(error));
    }
    let report = perform(context, dry_run, None)?;
    drop(claim);
    if context.json {
        for action in &report.actions {
            out::json(action)?;
        }
    } else {
        for line in report.lines() {
            out::line(format_args!("{line}"))?;
        }
    }
    DONE
}

/// Who may change a scandir.
pub enum ScandirClaim {
    /// We may, as long as this value exists. A scandir that root prepared has no lock for us.
    Ours(#[expect(dead_code, reason = "kept, not used")] Option<OwnedFd>),
    /// Somebody else: a supervisor, or a process that is about to become one.
    Taken,
}

/// Takes the lock of a supervisor, so that no supervisor begins and nobody else reconciles on the
/// same scandir.
///
/// The lock is lost at exec, and the executed supervisor first takes it again. A process that comes
/// between the two makes the slots anew before it supervises them, and then the other one ends.
pub fn claim(context: &CommandContext) -> Result<ScandirClaim, CommandError> {
    let scandir = context.manager.scandir();
    may_make_slots(scandir).map_err(|error| CommandError::of(Exit::System, &error))?;
    let failed = |error: io::Error| {
        CommandError::new(
            Exit::System,
            format!("cannot prepare the scandir `{}`: {error}", scandir.display()),
        )
    };
    let directory = scandir.join(files::SVSCAN);
    fs::create_dir_all(scandir).map_err(failed)?;
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let taken = by_path::open(&directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
        .and_then(|directory| file::lock(&directory, "lock"));
    match taken {
        Ok(Some(lock)) => Ok(ScandirClaim::Ours(Some(lock))),
        Ok(None) => Ok(ScandirClaim::Taken),
        Err(Errno::ACCESS) => Ok(ScandirClaim::Ours(None)),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Reconciles, and returns the results. `earlier` identifies the scandir of the home's last
/// supervisor, if the home is locked.
pub fn perform(
    context: &CommandContext,
    dry_run: bool,
    earlier: Option<&str>,
) -> Result<ReconcileReport, CommandError> {
    let manager = &context.manager;
    let settings = ReconcileSettings {
        agent: manager.agent(),
        home: manager.home(),
        scandir: manager.scandir(),
        interpreter: &context.program,
        container_argv: &[],
        earlier,
        elsewhere: false,
        variable: &variable,
        now: Zoned::now(),
    };
    reconcile(&settings, dry_run).map_err(CommandError::from)
}
