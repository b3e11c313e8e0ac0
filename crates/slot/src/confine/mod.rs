//! Restrictions of a service, applied to the interpreter just before it becomes the command.
//!
//! *Lives here:* the order of the restrictions, and the consequence of one that cannot be applied:
//! an error if the slot says `strict`, else a warning.
//! *Does not live here:* control groups, which are made before the user changes (`group`).
//!
//! This is the only order in which no restriction prevents a later one. Removing rights from
//! everything that is executed later needs rights, so the bounding set comes before the change of
//! user. All others come after it, so that a slot never gets more rights than its user. Paths are
//! opened, and the prober and the error reporter are forked, before there are limits. Limits come
//! before `no_new_privs`, which changes none of them, and Landlock requires `no_new_privs`.
//! Landlock is last because it would prevent opening files after it.

mod capabilities;
mod landlock;
mod rlimits;
pub mod settings;
mod shortfall;

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::failure::FailedStart;
use crate::file::ServiceFile;

pub(crate) use landlock::Paths;
pub(crate) use settings::allows;
pub(crate) use shortfall::{Cannot, Shortfall};

/// The highest score that there is.
const MOST: i32 = 1000;

/// The restrictions of one start, from the first to the last.
#[derive(Debug)]
pub(crate) struct Confinement {
    pub(crate) shortfall: Shortfall,
    /// It is opened before the user changes, because afterwards `/proc/self` belongs to root until
    /// the next exec.
    score: Option<Result<OwnedFd, Errno>>,
}

impl Confinement {
    /// Does everything that needs the rights which the change of user removes.
    pub(crate) fn begin(file: &ServiceFile) -> Result<Self, FailedStart> {
        let mut shortfall = Shortfall::new(file.strict);
        if let Some(kept) = &file.capabilities {
            let no_gain = file.no_new_privileges || file.landlock.is_some();
            shortfall.take(capabilities::bound(kept, no_gain))?;
        }
        let open = || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            openat(CWD, c"/proc/self/oom_score_adj", flags, Mode::empty())
        };
        let score = file.oom_score_adj.or(file.oom_score_raise).map(|_| open());
        Ok(Self { shortfall, score })
    }

    /// Does the rest, and returns a warning, if there is one.
    pub(crate) fn finish(
        mut self,
        file: &ServiceFile,
        paths: Option<&Paths>,
    ) -> Result<Option<String>, FailedStart> {
        match (self.score.take(), file.oom_score_adj, file.oom_score_raise) {
            (Some(score), Some(wanted), _) => self.shortfall.take(raise_score(score, wanted))?,
            (Some(Ok(score)), None, Some(more)) => raise_score_by(&score, more),
            _ => {}
        }
        let ruleset = match paths {
            Some(paths) => landlock::prepare(paths, &mut self.shortfall)?,
            None => None,
        };
        for (name, limit) in &file.limits {
            self.shortfall.take(rlimits::set(*name, *limit))?;
        }
        if file.capabilities.is_some() {
            self.shortfall.take(capabilities::let_none_be_inherited())?;
        }
        if file.no_new_privileges || paths.is_some() {
            let set = rustix::thread::set_no_new_privs(true)
                .map_err(|errno| Cannot::new("no-new-privileges", errno, "this kernel does not know it"));
            self.shortfall.take(set)?;
        }
        if let Some(ruleset) = ruleset {
            self.shortfall.take(landlock::restrict(ruleset))?;
        }
        Ok(self.shortfall.warning())
    }
}

fn raise_score(file: Result<OwnedFd, Errno>, wanted: i32) -> Result<(), Cannot> {
    let cannot = |errno, remedy: &str| Cannot::new(format!("oom-score-adj = {wanted}"), errno, remedy);
    let file = file.map_err(|errno| cannot(Some(errno), "is /proc mounted, and writable?"))?;
    let present = present_score(&file).map_err(|errno| cannot(Some(errno), "is /proc mounted?"))?;
    if present.is_some_and(|present| present > wanted) {
        return Err(cannot(None, "the supervisor's own is higher, and it can be raised only"));
    }
    match rustix::io::write(&file, wanted.to_string().as_bytes()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(cannot(Some(errno), "it can be raised only")),
    }
}

fn present_score(file: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut buffer = [0; 16];
    let read = rustix::io::read(file, &mut buffer)?;
    let text = buffer.get(..read).unwrap_or_default();
    Ok(str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()))
}

/// Raises the score as far as possible. That benefits others, so a failure neither prevents the
/// start nor is reported.
fn raise_score_by(file: &OwnedFd, more: i32) {
    if let Ok(Some(present)) = present_score(file) {
        let wanted = present.saturating_add(more).min(MOST);
        let _ = rustix::io::write(file, wanted.to_string().as_bytes());
    }
}

/// Expands the variables in the texts of `[landlock]`.
pub(crate) fn expand_paths(
    file: &ServiceFile,
    expand: &dyn Fn(&str, &str) -> Result<OsString, FailedStart>,
) -> Result<Option<Paths>, FailedStart> {
    let Some(landlock) = &file.landlock else { return Ok(None) };
    let list = |key: &str, texts: &[String]| {
        texts.iter().map(|text| expand(key, text)).collect::<Result<Vec<_>, _>>()
    };
    let more =
        |key: &str, texts: &Option<Vec<String>>| texts.as_deref().map(|texts| list(key, texts)).transpose();
    Ok(Some(Paths {
        write: list("landlock.write", &landlock.write)?,
        read: more("landlock.read", &landlock.read)?,
        execute: more("landlock.execute", &landlock.execute)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::exit::Exit;

    #[test]
    fn restrictions_that_cannot_be_applied_are_one_warning_or_the_first_error() {
        let cannot = || Err(Cannot::new("limits.nofile = 9", Errno::PERM, "ask for less"));
        let mut lax = Shortfall::new(false);
        assert_eq!(lax.warning(), None);
        lax.take(cannot()).unwrap();
        lax.take(Err(Cannot::new("landlock", None, "not on\nthis kernel"))).unwrap();
        assert_eq!(
            lax.warning().unwrap(),
            "warning: it runs without `limits.nofile = 9`: Operation not permitted; ask for less (errno 1); without \
             `landlock`: not on\\nthis kernel"
        );
        let failure = Shortfall::new(true).take(cannot()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "confining: `limits.nofile = 9`: Operation not permitted; ask for less (errno 1)"
        );
        assert_eq!(failure.exit, Exit::System);
    }
}
