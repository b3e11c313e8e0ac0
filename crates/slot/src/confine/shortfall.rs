//! Restrictions that cannot be applied.
//!
//! *Lives here:* one of them, and what several mean: a failed start of a strict slot, else a
//! warning. *Does not live here:* applying restrictions.

use std::fmt::Write as _;

use gatevisor_wire::exit::Exit;
use rustix::io::Errno;

use crate::failure::{FailedStart, one_line};
use crate::os;

/// A restriction that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cannot {
    /// The setting, as in the file.
    pub setting: String,
    /// The kernel's error, if it was asked.
    pub errno: Option<Errno>,
    /// The consequence, and what to do.
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

/// The restrictions that could not be applied so far, in a slot that is not strict.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    strict: bool,
    missed: Vec<Cannot>,
}

impl Shortfall {
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, missed: Vec::new() }
    }

    /// Handles a restriction that could not be applied.
    ///
    /// # Errors
    /// The restriction, if the slot is strict.
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

    /// Returns a line about the restrictions that could not be applied, if there are any.
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
