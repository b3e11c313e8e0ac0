//! Asking systemd, through its own tools.
//!
//! *Lives here:* calling them, and reading what they print. *Does not live here:* which of them is
//! called when.
//!
//! The tools are looked for only in the directories of the system. Root calls them, too, and the
//! `PATH` of the caller may begin with a directory of another user.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use gatevisor_sys::{call, environment};

use super::unit::HostScope;
use crate::exit::{CommandError, Exit};

/// It exists on a machine whose first process is systemd.
///
/// **Source:** `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
/// The directories with the tools of systemd. The last one is that of NixOS.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/run/current-system/sw/bin"];

/// What to do if systemd does not know the session of the caller.
const NO_SESSION: &str = "; this shell has no session, as after `su` or `sudo -u`: log in as this user, or \
    `sudo loginctl enable-linger USER` and then `export XDG_RUNTIME_DIR=/run/user/$(id -u)`; as root, without --user, \
    this makes a unit of the system";

/// Returns whether a tool of systemd has said that it found no service manager of the user.
fn is_without_session(said: &str) -> bool {
    ["connect to bus", "connect to user scope bus"].iter().any(|words| said.contains(words))
}

/// Fails on a machine without systemd.
pub fn must_run() -> Result<(), CommandError> {
    if Path::new(BOOTED).is_dir() {
        return Ok(());
    }
    Err(CommandError::new(
        Exit::System,
        "systemd does not run this machine, and no other service manager is known; `gatevisor up --detach` supervises \
         in the background, and `gatevisor init` is the first process of a container",
    ))
}

/// Calls `systemctl` in this scope, and returns what it printed.
pub fn call(scope: HostScope, words: &[&str]) -> Result<String, CommandError> {
    tool("systemctl", &[&[scope.option()], words].concat())
}

/// Returns properties of a unit by name.
pub fn properties(
    scope: HostScope,
    unit: &str,
    names: &[&str],
) -> Result<BTreeMap<String, String>, CommandError> {
    let printed = call(scope, &["show", "--property", &names.join(","), "--", unit])?;
    let pairs = printed.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Returns whether the user's services run while the user has no session; `None` if that cannot be
/// found out.
pub fn lingers(uid: u32) -> Option<bool> {
    let printed =
        tool("loginctl", &["show-user", "--property", "Linger", "--value", &uid.to_string()]).ok()?;
    match printed.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn tool(program: &str, words: &[&str]) -> Result<String, CommandError> {
    let failed = |why: String| {
        CommandError::new(Exit::System, format!("`{program} {}` failed: {why}", words.join(" ")))
    };
    let Some(path) = in_one_of(&DIRECTORIES, program) else {
        return Err(failed(format!("there is no `{program}` in {}", DIRECTORIES.join(", "))));
    };
    let mut called = call::command(&path).map_err(|error| failed(error.to_string()))?;
    called.args(words).stdin(Stdio::null());
    called.env_clear().envs(environment::inherited(std::env::vars_os().collect()));
    let output = called.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    said.truncate(3);
    let said = if said.is_empty() { output.status.to_string() } else { said.join("; ") };
    let remedy = if is_without_session(&said) { NO_SESSION } else { "" };
    Err(failed(said + remedy))
}

/// Returns the path of a program in the first of these directories that has one.
fn in_one_of(directories: &[&str], program: &str) -> Option<PathBuf> {
    let mut paths = directories.iter().map(|directory| Path::new(directory).join(program));
    paths.find(|path| path.is_file())
}

/// Returns the value of a variable, if it is text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .and_then(|value| OsStr::to_str(&value).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_found_in_the_directories_of_the_system_whatever_path_says() {
        assert!(DIRECTORIES.iter().all(|directory| Path::new(directory).is_absolute()));
        assert_eq!(in_one_of(&["/none", "/bin"], "sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(in_one_of(&["/none"], "sh"), None);
    }

    #[test]
    fn a_shell_without_a_session_is_recognized_by_what_systemd_says() {
        for (said, expected) in [
            ("Failed to connect to bus: No such file or directory", true),
            ("Failed to connect to bus: No medium found", true),
            (
                "Failed to connect to bus: $DBUS_SESSION_BUS_ADDRESS and $XDG_RUNTIME_DIR not defined (consider \
                 using --machine=<user>@.host --user to connect to bus of other user)",
                true,
            ),
            ("Failed to connect to user scope bus via local transport: Permission denied", true),
            ("Failed to connect to system scope bus via local transport: Permission denied", false),
            ("Failed to enable unit: Access denied", false),
        ] {
            assert_eq!(is_without_session(said), expected, "{said}");
        }
    }
}
