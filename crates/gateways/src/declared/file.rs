//! *Lives here:* the file that declares profiles: its form, who may have written it, and reading
//! it.
//!
//! *Does not live here:* what follows from it (`decide`).
//!
//! **Source:** docs/reference/profiles-file.md.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_paths::{by_path, is_trusted};
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::policy::one_line;
use rustix::fs::{OFlags, StatVfsMountFlags, fstat, fstatvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::desired::{Desired, MAX_TEXT};
use crate::files::{ReadFileError, read_opened};
use crate::profile::{ProfileName, ProfileNameError};

/// The most bytes of the file, as of a `ConfigMap`.
const MAX_BYTES: usize = 1 << 20;
/// The permissions of a file that others than its owner may write.
const OTHERS_WRITE: u32 = 0o022;

/// What becomes of a desired state that somebody set inside of the home and that is not the
/// declared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// The declared state is set again.
    #[default]
    Revert,
    /// It stays, and is shown.
    Report,
}

impl fmt::Display for DriftPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revert => "revert",
            Self::Report => "report",
        })
    }
}

/// A profile that the file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredProfile {
    /// The profile; the root profile can be declared, too.
    pub name: ProfileName,
    /// Whether its gateway shall run.
    pub desired: Desired,
    /// What becomes of another desired state.
    pub drift: DriftPolicy,
    /// A file whose variables its own file of variables gets when the profile is made.
    pub env_file: Option<PathBuf>,
}

/// What a file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration {
    /// Who wrote it, in the writer's words, on one line.
    pub set_by: Option<String>,
    /// The profiles, in the order of the file.
    pub profiles: Vec<DeclaredProfile>,
}

/// Why a file does not count.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    /// There is no such file.
    #[error("it does not exist; make it, or unset {}", super::VARIABLE)]
    Missing,
    /// The kernel refuses to open it.
    #[error("it cannot be opened: {0}")]
    Open(#[source] Errno),
    /// It cannot be read.
    #[error("it cannot be read: {}", error_chain(.0))]
    Read(#[source] ReadFileError),
    /// Somebody else may have written it.
    #[error(
        "it belongs to uid {0}, who is neither root nor the user of the gateways; make it root's, or mount it \
         read-only"
    )]
    Foreign(u32),
    /// Others than its owner may write it.
    #[error("others than its owner may write it (mode {0:03o}); chmod go-w, or mount it read-only")]
    Writable(u32),
    /// It is not TOML, or holds something that has no meaning there.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A name is none that a profile can have.
    #[error("{why}")]
    Name {
        /// The name, and what is wrong with it.
        why: String,
    },
    /// It names a profile twice.
    #[error("it names the profile `{0}` twice; leave one of them out")]
    Twice(ProfileName),
    /// A path in it is not absolute.
    #[error("the env-file of `{0}` is not an absolute path; begin it with `/`")]
    Relative(ProfileName),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenFile {
    set_by: Option<String>,
    #[serde(default)]
    drift: DriftPolicy,
    #[serde(default)]
    profile: Vec<WrittenProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenProfile {
    name: String,
    desired: Desired,
    drift: Option<DriftPolicy>,
    env_file: Option<PathBuf>,
}

impl Declaration {
    /// Reads the file, if nobody may have written it but root and the user of this process.
    pub fn read(path: &Path) -> Result<Self, DeclarationError> {
        let file = match by_path::open(path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(DeclarationError::Missing),
            Err(errno) => return Err(DeclarationError::Open(errno)),
        };
        trust(&file)?;
        let bytes = read_opened(file, MAX_BYTES).map_err(DeclarationError::Read)?;
        Self::parse(str::from_utf8(&bytes).map_err(|_| DeclarationError::NotUtf8)?)
    }

    /// Returns what a text declares.
    pub fn parse(text: &str) -> Result<Self, DeclarationError> {
        let written: WrittenFile = toml::from_str(text).map_err(|error| {
            let begin = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(begin).filter(|byte| *byte == b'\n').count().saturating_add(1);
            DeclarationError::Syntax { line, what: one_line(error.message()) }
        })?;
        let (mut profiles, mut seen) = (Vec::new(), BTreeSet::new());
        for one in written.profile {
            let profile = declared(one, written.drift)?;
            if !seen.insert(profile.name.clone()) {
                return Err(DeclarationError::Twice(profile.name));
            }
            profiles.push(profile);
        }
        let set_by = written.set_by.map(|by| one_line(&by).chars().take(MAX_TEXT / 4).collect());
        Ok(Self { set_by, profiles })
    }
}

fn declared(written: WrittenProfile, drift: DriftPolicy) -> Result<DeclaredProfile, DeclarationError> {
    let name: ProfileName = written
        .name
        .parse()
        .map_err(|error: ProfileNameError| DeclarationError::Name { why: one_line(&error_chain(&error)) })?;
    if written.env_file.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(DeclarationError::Relative(name));
    }
    let (desired, drift) = (written.desired, written.drift.unwrap_or(drift));
    Ok(DeclaredProfile { name, desired, drift, env_file: written.env_file })
}

/// Refuses a file that somebody may have written who may not decide. What is mounted read-only was
/// mounted by root, who decided so.
fn trust(file: &OwnedFd) -> Result<(), DeclarationError> {
    let stat = fstat(file).map_err(DeclarationError::Open)?;
    let system = fstatvfs(file).map_err(DeclarationError::Open)?;
    let is_read_only = system.f_flag.contains(StatVfsMountFlags::RDONLY);
    trusted(stat.st_uid, stat.st_mode, is_read_only, &is_trusted)
}

fn trusted(
    uid: u32,
    mode: u32,
    is_read_only: bool,
    is_trusted: &dyn Fn(u32) -> bool,
) -> Result<(), DeclarationError> {
    match () {
        () if is_read_only => Ok(()),
        () if !is_trusted(uid) => Err(DeclarationError::Foreign(uid)),
        () if mode & OTHERS_WRITE != 0 => Err(DeclarationError::Writable(mode & 0o777)),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn a_file_declares_profiles_with_one_policy_for_those_that_name_none() {
        let text = r#"
set-by = "AgentHome coders generation 3"
drift = "report"
[[profile]]
name = "coder"
desired = "running"
[[profile]]
name = "default"
desired = "stopped"
drift = "revert"
env-file = "/run/secrets/default.env"
"#;
        let declaration = Declaration::parse(text).unwrap();
        assert_eq!(declaration.set_by.as_deref(), Some("AgentHome coders generation 3"));
        let shown = |one: &DeclaredProfile| {
            let file = one.env_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            format!("{} {} {} {file}", one.name, one.desired, one.drift)
        };
        let shown: Vec<String> = declaration.profiles.iter().map(shown).collect();
        assert_eq!(shown, ["coder running report ", "default stopped revert /run/secrets/default.env"]);
        let plain = Declaration::parse("[[profile]]\nname = \"a\"\ndesired = \"running\"").unwrap();
        assert_eq!(plain.profiles[0].drift, DriftPolicy::Revert);
        assert_eq!(Declaration::parse("").unwrap(), Declaration::default(), "nothing is declared");
    }

    #[test]
    fn a_file_that_is_wrong_says_where_and_what() {
        let one = |text: &str| format!("[[profile]]\n{text}");
        let texts = [
            "profile = 3".to_owned(),
            "[[profile]".to_owned(),
            one("name = \"a\"\ndesired = \"Running\""),
            one("name = \"a\""),
            one("name = \"A b\"\ndesired = \"running\""),
            one("name = \"a\"\ndesired = \"running\"\nports = 3"),
            one("name = \"a\"\ndesired = \"running\"\nenv-file = \"a.env\""),
            format!("{0}{0}", one("name = \"a\"\ndesired = \"running\"\n")),
        ];
        let said: Vec<String> =
            texts.iter().map(|text| Declaration::parse(text).unwrap_err().to_string()).collect();
        assert_snapshot!(said.join("\n"), @r"
        line 1: invalid type: integer `3`, expected a sequence
        line 1: unclosed array table, expected `]`
        line 3: unknown variant `Running`, expected `running` or `stopped`
        line 1: missing field `desired`
        profile name `A b` has the upper-case letter `A`; write `a`
        line 4: unknown field `ports`, expected one of `name`, `desired`, `drift`, `env-file`
        the env-file of `a` is not an absolute path; begin it with `/`
        it names the profile `a` twice; leave one of them out
        ");
    }

    #[test]
    fn only_root_and_the_own_user_declare_and_whoever_mounted_it_read_only() {
        let of = |uid, mode, is_read_only| {
            trusted(uid, mode, is_read_only, &|uid| uid == 0 || uid == 7)
                .map_or_else(|error| error.to_string(), |()| "counts".to_owned())
        };
        assert_eq!(of(0, 0o100_644, false), "counts");
        assert_eq!(of(7, 0o100_600, false), "counts");
        assert!(of(8, 0o100_600, false).starts_with("it belongs to uid 8"));
        assert!(of(0, 0o100_664, false).contains("mode 664"));
        assert!(of(7, 0o100_606, false).contains("mode 606"));
        assert_eq!(of(8, 0o100_666, true), "counts", "nobody in the container has mounted it");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_declaration_or_an_error_on_one_line(text in "[a-z\\[\\]=\"\n -]{0,80}") {
            if let Err(error) = Declaration::parse(&text) {
                proptest::prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
