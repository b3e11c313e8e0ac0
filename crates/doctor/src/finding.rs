//! *Lives here:* the result of a check: what is wrong, why, and the command that fixes it.
//!
//! *Does not live here:* the checks; colours.

use std::path::Path;

use gatevisor_term::escape;
use serde::Serialize;

use gatevisor_gateways::inspect::LineSpan;
use gatevisor_gateways::profile::ProfileName;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something that was asked for does not work, or will not work.
    Error,
    /// It works, but not as it should, or not for long.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Returns the word for the severity.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The check that found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Is there a supervisor, and which?
    Supervisor,
    /// Can the home and the profiles be written to?
    Home,
    /// Does everything belong to the home's owner?
    Owner,
    /// Are secrets secret, and can their files be read?
    Secret,
    /// Do state files hold a desired state?
    DesiredState,
    /// Is the home as the profiles file declares it?
    Declared,
    /// Has each profile a supervised slot, and each slot a profile?
    Slot,
    /// Does exactly one gateway serve each profile, and is it known which?
    Topology,
    /// Are lines kept?
    Log,
    /// Does each gateway have its ports for itself?
    Port,
    /// Does each gateway have its tokens for itself?
    Token,
    /// Do gateways stay up?
    Crash,
    /// Do gateways take work?
    Drain,
    /// Is there room?
    Disk,
    /// Does a process hold a lock for which others wait?
    Lock,
    /// Do files that name a process name the right one?
    PidFile,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 16] = [
        Self::Supervisor,
        Self::Home,
        Self::Owner,
        Self::Secret,
        Self::DesiredState,
        Self::Declared,
        Self::Slot,
        Self::Topology,
        Self::Log,
        Self::Port,
        Self::Token,
        Self::Crash,
        Self::Drain,
        Self::Disk,
        Self::Lock,
        Self::PidFile,
    ];

    /// Returns the word for the check, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Home => "home",
            Self::Owner => "owner",
            Self::Secret => "secret",
            Self::DesiredState => "desired-state",
            Self::Declared => "declared",
            Self::Slot => "slot",
            Self::Topology => "topology",
            Self::Log => "log",
            Self::Port => "port",
            Self::Token => "token",
            Self::Crash => "crash",
            Self::Drain => "drain",
            Self::Disk => "disk",
            Self::Lock => "lock",
            Self::PidFile => "pid-file",
        }
    }
}

/// A problem that a check found.
///
/// None of its texts holds a control character, whatever is in the names and reasons that it
/// contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// The profile that it is about, if it is about one.
    pub profile: Option<ProfileName>,
    /// The file or directory that it is about, if it is about one.
    pub path: Option<String>,
    /// What is wrong.
    pub what: String,
    /// The reason, or the consequence.
    pub why: String,
    /// The command that fixes it, for a POSIX shell, if there is one.
    pub fix: Option<String>,
    /// The last output of the gateway that it is about.
    pub printed: Vec<String>,
    /// When the gateway wrote the lines that tell something about it.
    #[serde(skip)]
    pub lines: Option<LineSpan>,
}

impl Finding {
    /// Returns a finding without a subject and without a remedy.
    pub(crate) fn new(check: Check, severity: Severity, what: &str, why: &str) -> Self {
        let (what, why) = (plain(what), plain(why));
        Self {
            check,
            severity,
            profile: None,
            path: None,
            what,
            why,
            fix: None,
            printed: Vec::new(),
            lines: None,
        }
    }

    /// Sets the profile that it is about.
    #[must_use]
    pub(crate) fn of(mut self, profile: &ProfileName) -> Self {
        self.profile = Some(profile.clone());
        self
    }

    /// Sets the file that it is about.
    #[must_use]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path = Some(shown(path));
        self
    }

    /// Sets when the gateway wrote the lines that tell something about it.
    #[must_use]
    pub(crate) fn said(mut self, lines: Option<LineSpan>) -> Self {
        self.lines = lines;
        self
    }

    /// Sets the command that fixes it.
    #[must_use]
    pub(crate) fn fix(mut self, command: impl Into<Option<String>>) -> Self {
        self.fix = command.into();
        self
    }
}

/// Returns a path for people, on one line.
pub(crate) fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// Returns a text in which every character is visible that would control a terminal or change the
/// order of others.
pub(crate) fn plain(text: &str) -> String {
    escape::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_words_are_those_of_json() {
        let page = include_str!("../../../docs/reference/doctor.md");
        for check in Check::ALL {
            assert_eq!(serde_json::to_value(check).unwrap(), check.word());
            let row = format!("`{}`", check.word());
            assert!(page.lines().any(|line| line.starts_with('|') && line.contains(&row)), "docs: no {row}");
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.word());
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{202e}c ü"), "a\\u{1b}[31m\\nb\\u{202e}c ü");
    }

    proptest! {
        #[test]
        fn no_text_moves_the_cursor(text in any::<String>()) {
            prop_assert!(!plain(&text).contains(char::is_control));
        }
    }
}
