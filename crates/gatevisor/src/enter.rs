//! The container's command, and root's calls of the agent's program: their user, their environment,
//! and the executed program.
//!
//! *Lives here:* becoming it, and the part of its environment that describes the container.
//! *Does not live here:* the meaning of the container's arguments (`gatevisor_boot::route`).
//!
//! **Source:** docs/design/behaviour.md, *The wrapper and the shim*; USER-1.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::route;
use gatevisor_gateways::agent::{AgentDefinition, says_yes};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::Home;
use gatevisor_gateways::topology::of_installed;
use gatevisor_paths::OpenHome;
use gatevisor_sys::environment::{DEFAULT_PATH, ProgramEnvironment, USER_PATH};
use gatevisor_sys::user::{self, User};
use gatevisor_sys::{Errno, program};
use gatevisor_term::relay;
use rustix::fs::{Access, Mode, access};

use crate::container_scandir;
use crate::exit::{CommandError, Exit, Outcome};

/// Returns the agent's definition.
pub fn agent() -> Result<AgentDefinition, CommandError> {
    AgentDefinition::load(None).map_err(CommandError::from)
}

/// Returns the agent's home, according to its variable, or else its user's home.
pub fn home(agent: &AgentDefinition, variables: &[Variable]) -> Result<PathBuf, CommandError> {
    let name = agent.home_variable();
    if let Some(path) = environment::get(variables, &name).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    match user::lookup(agent.user().as_bytes()) {
        Ok(user) if user.home.starts_with(b"/") => Ok(OsString::from_vec(user.home).into()),
        _ => Err(CommandError::new(
            Exit::Usage,
            format!("no home is known; set {name}, with -e or in the image"),
        )),
    }
}

/// Returns the manager of a container's gateways, according to the environment of a service of the
/// container.
pub fn manager(variables: &[Variable]) -> Result<ScandirManager, CommandError> {
    let agent = agent()?;
    let home = home(&agent, variables)?;
    let home = Home::new(&home)?;
    let scandir =
        environment::get(variables, container_scandir::SCANDIR_VARIABLE).filter(|path| !path.is_empty());
    let scandir = scandir.map_or_else(container_scandir::containers_scandir, PathBuf::from);
    let program = gatevisor_sys::process::own_program().map_err(|error| {
        CommandError::new(Exit::System, format!("cannot find this program's own file: {error}"))
    })?;
    let agent = of_installed(&agent, &home);
    Ok(ScandirManager::new(agent, home, scandir, program))
}

/// Returns the home directory of the user that services and the command run as: `user` if we are
/// root, or else our own user.
pub fn user_home(user: Option<&User>, home: &Path) -> OsString {
    let found = match user {
        Some(user) => Some(user.home.clone()),
        None => user::lookup_uid(rustix::process::geteuid().as_raw()).ok().map(|user| user.home),
    };
    match found {
        Some(path) if path.len() > 1 && path.starts_with(b"/") => OsString::from_vec(path),
        // A user without an entry has no other place for files.
        _ => home.as_os_str().to_owned(),
    }
}

/// Returns an error if this user, who is not root, has no access to the home.
///
/// **Source:** USER-1, USER-2.
pub fn guard(agent: &AgentDefinition, home: &Path) -> Result<(), CommandError> {
    let ours = rustix::process::geteuid().as_raw();
    let is_agent = user::lookup(agent.user().as_bytes()).is_ok_and(|user| user.uid == ours);
    let writable = || match access(home, Access::WRITE_OK | Access::EXEC_OK) {
        Err(Errno::NOENT) => OpenHome::open_or_make(home, Mode::from_raw_mode(0o755)).is_ok(),
        other => other.is_ok(),
    };
    if is_agent || writable() {
        return Ok(());
    }
    let prefix = agent.prefix();
    Err(CommandError::new(
        Exit::No,
        format!(
            "this container runs as uid {ours}, which is not supported here: it may not write to the home `{}`; leave \
             out --user and set {prefix}UID={ours} and {prefix}GID (or PUID and PGID) instead, or mount a home there \
             that uid {ours} owns",
            home.display()
        ),
    ))
}

/// `main-wrapper.sh`, which is `gatevisor enter`: becomes a command of the agent's, as the agent's
/// user.
///
/// The container's own command has the container's terminal; other callers keep their terminals to
/// themselves.
pub fn run(words: &[OsString], terminal: TerminalOwner) -> Outcome {
    let agent = agent()?;
    let mut variables: Vec<Variable> = std::env::vars_os().collect();
    let home = home(&agent, &variables)?;
    if rustix::process::geteuid().is_root() {
        become_agent(&agent, terminal)?;
    } else {
        guard(&agent, &home)?;
    }
    environment::set(&mut variables, "HOME", user_home(None, &home));
    environment::set(&mut variables, &agent.home_variable(), home);
    let environment = told(&agent, variables)?;
    let command = route::route(&agent, words, |name| is_program(name, environment.path()));
    Err(become_program(&command, &environment))
}

/// The agent's name as a program: becomes the agent's program, as the agent's user unless root
/// insists on itself.
///
/// **Source:** SH-1, SH-2.
pub fn call(agent: &AgentDefinition, words: &[OsString]) -> Outcome {
    let Some(program) = &agent.container.program else {
        return Err(CommandError::new(
            Exit::Usage,
            format!("the definition of `{}` names no program", agent.name),
        ));
    };
    let mut variables: Vec<Variable> = std::env::vars_os().collect();
    let keep = agent.container.keep_root_variable.as_deref();
    let keep = keep.and_then(|name| environment::get(&variables, name)?.to_str()).is_some_and(says_yes);
    if rustix::process::geteuid().is_root() && !keep {
        let user = become_agent(agent, TerminalOwner::Callers)
            .map_err(|failure| CommandError { code: Exit::NotExecutable.code(), ..failure })?;
        environment::set(&mut variables, "HOME", OsString::from_vec(user.home));
    }
    let command: Vec<OsString> =
        std::iter::once(OsString::from(program)).chain(words.iter().cloned()).collect();
    Err(become_program(&command, &told(agent, variables)?))
}

/// Returns the environment of the program that this process becomes, for its present user.
fn told(agent: &AgentDefinition, mut variables: Vec<Variable>) -> Result<ProgramEnvironment, CommandError> {
    set_user_path(agent, &mut variables);
    ProgramEnvironment::new(variables, DEFAULT_PATH)
        .map_err(|_| CommandError::new(Exit::System, "a variable holds a NUL byte"))
}

/// Sets the variable for the directories that only the agent's own programs search, unless it is
/// set already.
pub fn set_user_path(agent: &AgentDefinition, variables: &mut Vec<Variable>) {
    if environment::get(variables, USER_PATH).is_some() {
        return;
    }
    let known = |name: &str| environment::get(variables, name).map(OsStr::to_owned);
    let directories = agent.container.user_path.iter();
    let directories = directories.filter_map(|path| gatevisor_slot::expand(path, &known).ok());
    let joined = directories.collect::<Vec<_>>().join(OsStr::new(":"));
    if !joined.is_empty() {
        environment::set(variables, USER_PATH, joined);
    }
}

/// The owner of a command's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalOwner {
    /// The container: the terminal is there for its command.
    Containers,
    /// The caller, who goes on using it.
    Callers,
}

/// Leaves root's terminal to root; programs that run as `user` get a terminal of their own.
pub fn leave_terminal(user: &User) -> Result<(), CommandError> {
    relay::leave_terminal(user.uid).map_err(|error| {
        let hint = "is devpts mounted on /dev/pts? without a terminal, as after `docker exec` without -t, none is needed";
        CommandError::new(Exit::System, format!("cannot make a terminal for `{}`: {error}; {hint}", String::from_utf8_lossy(&user.name)))
    })
}

fn become_agent(agent: &AgentDefinition, terminal: TerminalOwner) -> Result<User, CommandError> {
    let user =
        user::lookup(agent.user().as_bytes()).map_err(|error| CommandError::of(Exit::System, &error))?;
    if terminal == TerminalOwner::Callers {
        leave_terminal(&user)?;
    }
    user::assume(&user).map_err(|errno| {
        let hint = "it needs the capabilities SETUID and SETGID; or start the container as that user";
        CommandError::new(Exit::System, format!("cannot become user `{}`: {errno}; {hint}", agent.user()))
    })?;
    Ok(user)
}

/// Returns whether a name is a program in one of the directories.
fn is_program(name: &OsStr, path: &[u8]) -> bool {
    path.split(|&b| b == b':').any(|directory| {
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        candidate.is_file() && access(&candidate, Access::EXEC_OK).is_ok()
    })
}

/// Becomes the program of a command. Returns only if that fails, with the reason.
pub fn become_program(command: &[OsString], environment: &ProgramEnvironment) -> CommandError {
    if command.is_empty() {
        return CommandError::new(Exit::Usage, "there is no command; name one after the image");
    }
    program::become_program(command, environment).into()
}

#[cfg(test)]
mod tests {
    use super::{guard, is_program, user_home};
    use gatevisor_gateways::agent::AgentDefinition;
    use gatevisor_sys::user::User;
    use std::ffi::OsStr;
    use std::path::Path;

    #[test]
    fn a_program_is_an_executable_file_on_the_path() {
        assert!(is_program(OsStr::new("sh"), b"/nonexistent:/bin"));
        assert!(!is_program(OsStr::new("sh"), b"/nonexistent"));
        assert!(!is_program(OsStr::new("passwd"), b"/etc"), "not executable");
        assert!(!is_program(OsStr::new("init.d"), b"/etc"), "a directory");
    }

    #[test]
    fn a_user_without_a_home_uses_the_agents() {
        let user =
            |home: &str| User { uid: 7, gid: 7, name: b"u".to_vec(), home: home.into(), groups: vec![7] };
        assert_eq!(user_home(Some(&user("/opt/data")), Path::new("/h")), "/opt/data");
        assert_eq!(user_home(Some(&user("/")), Path::new("/h")), "/h");
        assert_eq!(user_home(Some(&user("")), Path::new("/h")), "/h");
    }

    #[test]
    fn a_user_who_may_write_to_the_home_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let agent = AgentDefinition::built_in().unwrap();
        assert!(guard(&agent, &dir.path().join("made/here")).is_ok());
        let refused = guard(&agent, Path::new("/proc/nothing/here")).unwrap_err();
        for word in ["not supported", "HERMES_UID=", "HERMES_GID", "PUID", "PGID", "/proc/nothing/here"] {
            assert!(refused.message.contains(word), "{word}: {}", refused.message);
        }
        assert_eq!(refused.code, 1);
    }
}
