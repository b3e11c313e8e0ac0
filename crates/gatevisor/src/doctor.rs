//! `gatevisor doctor`: what is wrong, why, and the command that fixes it.
//!
//! *Lives here:* becoming the home's owner, and printing.
//! *Does not live here:* the checks (`gatevisor_doctor`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use gatevisor_doctor::{
    Caller, Check, Diagnosis, DoctorSettings, Finding, SeenSupervisor, Severity, diagnose, owner_of,
};
use gatevisor_sys::user;

use crate::args::Common;
use crate::container_scandir::CONTAINER_SCANDIR;
use crate::context::{CommandContext, told_elsewhere};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::home_claim::other_supervisor;
use crate::out::{self, DIM, Text, colour};
use crate::{host_service, takeover, watch};

/// Examines the home and its scandir; the exit code is 1 if anything is an error.
pub fn run(context: &CommandContext, common: &Common) -> Outcome {
    let diagnosis = diagnose(&settings(context, common)?);
    let diagnosis = with_last_lines(context, diagnosis);
    let printed =
        if context.json { diagnosis.findings.iter().try_for_each(out::json) } else { print(&diagnosis) };
    // The answer does not depend on whether everything is read.
    if diagnosis.count(Severity::Error) > 0 { Ok(Exit::No.code()) } else { printed.and(DONE) }
}

/// Returns the settings for the checks, after becoming the home's owner.
pub fn settings<'a>(
    context: &'a CommandContext,
    common: &Common,
) -> Result<DoctorSettings<'a>, CommandError> {
    let manager = &context.manager;
    let is_container = manager.scandir() == Path::new(CONTAINER_SCANDIR);
    // This comes before the user changes, because the owner may not look into root's scandir.
    let seen = SeenSupervisor::of(manager.scandir());
    if rustix::process::geteuid().is_root()
        && let Some((uid, gid)) = owner_of(manager, is_container).filter(|(uid, _)| *uid != 0)
    {
        become_owner(uid, gid)?;
    }
    let keepers = [takeover::NAME, watch::NAME];
    let lost = seen.is_nowhere().then(|| other_supervisor(context)).flatten();
    Ok(DoctorSettings {
        manager,
        caller: caller(context, common),
        operator_is_root: context.operator_is_root,
        is_container,
        keepers,
        seen,
        lost: lost.filter(|other| other.is_lost).map(|other| other.pid),
        units: units(context),
    })
}

/// Returns the units of systemd that may run gateways of the home without us, as far as the
/// present user can read them.
fn units(context: &CommandContext) -> Vec<String> {
    let Ok(user) = user::lookup_uid(rustix::process::geteuid().as_raw()) else { return Vec::new() };
    let (manager, home) = (&context.manager, Path::new(OsStr::from_bytes(&user.home)));
    host_service::former_units(manager.home(), &manager.agent().home_variable(), home)
}

/// Becomes the home's owner for good, because the owner may have put links anywhere in the home.
fn become_owner(uid: u32, gid: u32) -> Result<(), CommandError> {
    let mut owner = user::lookup_uid(uid).map_err(|error| CommandError::of(Exit::System, &error))?;
    if !owner.groups.contains(&gid) {
        owner.groups.push(gid);
    }
    user::assume(&owner).map_err(|errno| {
        let what = format!(
            "cannot become uid {uid}, whose home it is: {errno}; run `gatevisor doctor` as that user"
        );
        CommandError::new(Exit::System, what)
    })
}

/// Returns how the operator calls our commands, as in the present call.
fn caller(context: &CommandContext, common: &Common) -> Caller {
    let called = std::env::args_os().next().unwrap_or_default();
    let on_path = !called.is_empty() && Path::new(&called).components().count() == 1;
    let mut words = vec![if on_path { called } else { context.program.clone().into() }];
    let mut choose = |option: &str, path: PathBuf| words.extend([OsString::from(option), path.into()]);
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if common.home.is_some() {
        choose("--home", whole(context.manager.home().root()));
    }
    if common.scandir.is_some() {
        choose("--scandir", whole(context.manager.scandir()));
    }
    if let Some(agent) = &common.agent {
        choose("--agent", told_elsewhere(agent));
    }
    Caller { words }
}

/// Adds to the diagnosis the last output of each gateway that does not stay up.
fn with_last_lines(context: &CommandContext, mut diagnosis: Diagnosis) -> Diagnosis {
    let crashes = diagnosis.findings.iter_mut().filter(|finding| finding.check == Check::Crash);
    for finding in crashes {
        if let Some(name) = &finding.profile {
            finding.printed = crate::last_lines::of_run(context, name, finding.lines);
        }
    }
    diagnosis
}

fn print(diagnosis: &Diagnosis) -> Result<(), CommandError> {
    for finding in &diagnosis.findings {
        print_finding(finding)?;
        out::empty_line()?;
    }
    let looked_at = &diagnosis.looked_at;
    let [errors, warnings, notes] =
        [Severity::Error, Severity::Warning, Severity::Note].map(|severity| diagnosis.count(severity));
    if errors + warnings == 0 {
        let well = Text::default().styled(colour(AnsiColor::Green), "all well");
        return out::line(well.and(format_args!(": looked at {looked_at}")));
    }
    let counts = [(errors, "error"), (warnings, "warning"), (notes, "note")];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    out::line(format_args!("{}; looked at {looked_at}", counts.join(", ")))
}

fn print_finding(finding: &Finding) -> Result<(), CommandError> {
    let severity = match finding.severity {
        Severity::Error => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Note => AnsiColor::Cyan,
    };
    let severity = Text::default().styled(colour(severity), finding.severity.word());
    out::line(severity.and(": ").and(&finding.what))?;
    let item = |name: &str, text: &str| {
        out::line(Text::from("  ").styled(DIM, format_args!("{name:5}")).and(" ").and(text))
    };
    item("why:", &finding.why)?;
    finding.fix.as_ref().map_or(Ok(()), |fix| item("fix:", fix))?;
    finding.printed.iter().try_for_each(|line| item("said:", line))?;
    match &finding.profile {
        Some(name) if finding.check == Check::Crash => {
            item("more:", &format!("`gatevisor explain {name}` says what led there"))
        }
        _ => Ok(()),
    }
}
