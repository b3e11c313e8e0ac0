//! What a service may do and use: applied to the interpreter just before it becomes the command.
//!
//! *Lives here:* the order of the restrictions, and what comes of one that cannot be had: an error where the slot says
//! `strict`, else a warning. *Does not live here:* control groups, which are made before the user changes (`group`).
//!
//! The order is the only one in which none is in the way of the next. What takes authority from everything that is
//! executed later needs authority, so the bounding set comes before the change of user; all else comes after it, so that
//! a slot never gets more than its user may have. Paths are opened and the prober and the error reporter are forked before there
//! are limits. Limits come before `no_new_privs`, which changes none of them, and Landlock asks for `no_new_privs`. It is
//! last because it would bar whatever opens a file after it.

mod capabilities;
mod landlock;
mod rlimits;
pub mod settings;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use gatevisor_wire::exit::Exit;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::failure::{FailedStart, one_line};
use crate::file::ServiceFile;
use crate::os;

pub(crate) use landlock::Paths;
pub(crate) use settings::allows;

/// The highest badness that there is.
const MOST: i32 = 1000;

/// A restriction that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cannot {
    /// The setting, as in the file.
    pub setting: String,
    /// What the kernel said, if it was asked.
    pub errno: Option<Errno>,
    /// What that means, and what to do.
    pub remedy: String,
}

impl Cannot {
    pub(crate) fn new(
        setting: impl Into<String>,
        errno: impl Into<Option<Errno>>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { setting: setting.into(), errno: errno.into(), remedy: remedy.into() }
    }

    fn message(&self) -> String {
        match self.errno {
            Some(errno) => format!("`{}`: {}; {}", self.setting, os::words(errno), self.remedy),
            None => format!("`{}`: {}", self.setting, self.remedy),
        }
    }
}

/// What could not be had so far, as long as that is no reason to stop.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    strict: bool,
    missed: Vec<Cannot>,
}

impl Shortfall {
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, missed: Vec::new() }
    }

    /// Takes in what could not be had.
    ///
    /// # Errors
    /// It is an error where the slot is strict.
    pub(crate) fn take(&mut self, cannot: Result<(), Cannot>) -> Result<(), FailedStart> {
        match cannot {
            Ok(()) => Ok(()),
            Err(cannot) if self.strict => Err(FailedStart {
                stage: "confining".to_owned(),
                message: cannot.message(),
                errno: cannot.errno,
                exit: Exit::System,
            }),
            Err(cannot) => {
                self.missed.push(cannot);
                Ok(())
            }
        }
    }

    /// Returns the line that says what could not be had, if there is anything.
    pub(crate) fn warning(&self) -> Option<String> {
        let (first, rest) = self.missed.split_first()?;
        let mut line = String::from("warning: it runs without ");
        for (index, cannot) in std::iter::once(first).chain(rest).enumerate() {
            line.push_str(if index == 0 { "" } else { "; without " });
            line.push_str(&cannot.message());
            if let Some(errno) = cannot.errno {
                let _ = write!(line, " (errno {})", errno.raw_os_error());
            }
        }
        Some(one_line(&line))
    }
}

/// The restrictions of one start, from the first to the last.
#[derive(Debug)]
pub(crate) struct Confinement {
    pub(crate) shortfall: Shortfall,
    /// Open since before the user changed: afterwards `/proc/self` belongs to root until the next exec.
    score: Option<Result<OwnedFd, Errno>>,
}

impl Confinement {
    /// Does what has to be done with the authority that the change of user takes away.
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

    /// Does the rest, and returns what is to be said about it.
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

/// Adds to the score, as far as that goes: it is for the good of others, and no reason to start or to say anything.
fn raise_score_by(file: &OwnedFd, more: i32) {
    if let Ok(Some(present)) = present_score(file) {
        let wanted = present.saturating_add(more).min(MOST);
        let _ = rustix::io::write(file, wanted.to_string().as_bytes());
    }
}

/// Texts of `[landlock]` with their variables expanded.
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

    #[test]
    fn what_cannot_be_had_is_one_warning_or_the_first_error() {
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
