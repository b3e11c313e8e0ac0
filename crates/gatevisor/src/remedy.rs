//! `gatevisor as-owner` and `gatevisor give-back`: the commands that `doctor` proposes to root.
//! Nobody can mislead root through them.
//!
//! *Lives here:* becoming the owner and executing a program; giving away entries below a home.
//! *Does not live here:* the proposals (`gatevisor_doctor`), and the walk
//! (`gatevisor_boot::repair`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gatevisor_boot::repair::Repair;
use gatevisor_gateways::agent::AgentDefinition;
use gatevisor_gateways::profile::Home;
use gatevisor_paths::OpenHome;
use gatevisor_sys::environment::{self, DEFAULT_PATH, ProgramEnvironment};
use gatevisor_sys::user;

use crate::args::Common;
use crate::container_scandir::variable;
use crate::context::named_definition;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::{enter, out};

/// Executes a program as this user, without access to root's terminal. A caller who is not root is
/// that user already.
pub fn as_owner(owner: &str, command: &[OsString]) -> Outcome {
    let (uid, gid) = parsed(owner)?;
    if rustix::process::geteuid().is_root() && uid != 0 {
        let mut user = user::lookup_uid(uid).map_err(|error| CommandError::of(Exit::System, &error))?;
        user.gid = gid;
        enter::leave_terminal(&user)?;
        user::assume(&user).map_err(|errno| {
            let hint = "it needs the capabilities SETUID and SETGID; or call this as that user";
            CommandError::new(Exit::System, format!("cannot become uid {uid}: {errno}; {hint}"))
        })?;
    }
    let variables = environment::inherited(std::env::vars_os().collect());
    let environment = ProgramEnvironment::exactly(variables, DEFAULT_PATH)
        .map_err(|_| CommandError::new(Exit::System, "a variable of the environment holds a NUL byte"))?;
    rustix::process::chdir("/")
        .map_err(|errno| CommandError::new(Exit::System, format!("cannot go to /: {errno}")))?;
    Err(enter::become_program(command, &environment))
}

/// Gives the entries at these paths below the home to this user.
pub fn give_back(common: &Common, owner: &str, paths: &[PathBuf]) -> Outcome {
    let owner = parsed(owner)?;
    let agent = AgentDefinition::load(named_definition(common).as_deref())?;
    let home = Home::resolve(common.home.as_deref(), &agent, &variable)?;
    let opened = OpenHome::open(home.root()).map_err(|error| CommandError::of(Exit::System, &error))?;
    let mut progress = |line: String| out::say(format_args!("{line}"));
    let mut repair = Repair::new(&opened, owner, None, &mut progress)
        .map_err(|refused| CommandError::new(Exit::System, refused))?;
    for path in paths {
        let below = below(path, home.root())?;
        if below.is_empty() { repair.home() } else { repair.tree(below) }
    }
    let outcome = repair.finish();
    out::warn_all(&outcome.complaints);
    out::line(format_args!("gave {} of {} entries to uid {}", outcome.changed, outcome.looked_at, owner.0))?;
    if outcome.complaints.is_empty() { DONE } else { Ok(Exit::System.code()) }
}

fn below<'a>(path: &'a Path, home: &Path) -> Result<&'a str, CommandError> {
    let outside = || usage(&format!("`{}` is not below the home `{}`", path.display(), home.display()));
    path.strip_prefix(home).ok().and_then(Path::to_str).ok_or_else(outside)
}

fn parsed(owner: &str) -> Result<(u32, u32), CommandError> {
    let numbers = owner.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| usage(&format!("`{owner}` is no UID:GID, as in 10000:10000")))
}

fn usage(what: &str) -> CommandError {
    CommandError::new(Exit::Usage, what.to_owned())
}
