//! `s6-svc -d` of a gateway, which is how the agent's own command line stops one before it records the wish.
//!
//! *Lives here:* what a stop of a gateway means beyond the command to its supervisor.
//! *Does not live here:* the applet; `gatevisor gateway stop`, which records the wish itself.
//!
//! The gateway is told in its own home that this is on purpose. The command line does so in the home of the profile that
//! it was called for; with `--all` that is one home for all gateways, and no gateway hears of it.
//!
//! And it has ended when this returns, unless it takes its time: at its end it writes the very file that the wish is
//! recorded in, and whoever reads it first takes back what the other wrote meanwhile.
//!
//! **Source:** L-3, L-19.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gatevisor_gateways::{AgentDefinition, Home, ProfileName, ScandirManager};
use gatevisor_sys::{process, user};
use rustix::io::Errno;
use rustix::process::{WaitOptions, geteuid, waitpid};

use crate::context::{CONTAINER_SCANDIR, SCANDIR_VARIABLE};
use crate::exit::Exit;
use crate::out;

/// Milliseconds that a gateway has to end before whoever stopped it goes on. They give up after five seconds.
const ENDS_WITHIN_MS: &str = "3000";

/// Brings a gateway of this container down; `None` where the service directory is none of one.
///
/// `run` is the applet, given its arguments. Returns its exit code.
pub fn run(service: &OsStr, run: impl Fn(&[OsString]) -> u8) -> Option<u8> {
    let (manager, name) = gateway_of(Path::new(service))?;
    if geteuid().is_root() {
        as_owner(Path::new(service), || announce(&manager, &name));
    } else {
        announce(&manager, &name);
    }
    let words = ["-wD", "-T", ENDS_WITHIN_MS, "-d"].map(OsString::from);
    let code = run(&[&words[..], &[service.to_owned()]].concat());
    // The command was sent, which is all that was asked for.
    Some(if code == Exit::TimedOut as u8 { Exit::Done as u8 } else { code })
}

/// Returns whose gateway a service directory in a container is, and the manager of it.
fn gateway_of(service: &Path) -> Option<(ScandirManager, ProfileName)> {
    let name = ProfileName::of_service(service.file_name()?.as_bytes())?;
    let scandir = std::env::var_os(SCANDIR_VARIABLE).unwrap_or_else(|| CONTAINER_SCANDIR.into());
    if service.parent()? != Path::new(&scandir) {
        return None;
    }
    let agent = AgentDefinition::load(None).ok()?;
    let home = Home::new(Path::new(&std::env::var_os(agent.home_variable())?)).ok()?;
    let program = std::env::current_exe().ok()?;
    Some((ScandirManager::new(agent, home, scandir.into(), program), name))
}

fn announce(manager: &ScandirManager, name: &ProfileName) {
    if let Some(problem) = manager.announce_stop(name) {
        out::say(format_args!("warning: {problem}"));
    }
}

/// Does `job` as the user that the service runs as, in a process of its own: root does not write where somebody else may
/// put links.
fn as_owner(service: &Path, job: impl FnOnce()) {
    let owner = std::fs::symlink_metadata(service).ok().and_then(|meta| user::lookup_uid(meta.uid()).ok());
    // One of root's own, or of nobody who is known, is only stopped, and says that nobody announced it.
    let Some(owner) = owner.filter(|owner| owner.uid != 0) else { return };
    let child = process::fork_child(|| {
        if user::assume(&owner).is_ok() {
            job();
        }
        0
    });
    if let Ok(child) = child {
        while matches!(waitpid(Some(child), WaitOptions::empty()), Err(Errno::INTR)) {}
    }
}
