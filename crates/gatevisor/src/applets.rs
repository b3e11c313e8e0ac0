//! Being one of s6's tools, and the links that make us so.
//!
//! *Lives here:* finding out that we are called as an applet, and `gatevisor applets`.
//! *Does not live here:* the applets.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use gatevisor_applets::links::{self, Installed};
use gatevisor_applets::{APPLETS, Applet};
use gatevisor_gateways::{AgentDefinition, Home, ProfileName, ScandirManager};

use crate::args::Applets;
use crate::exit::{DONE, Exit, Failure, Outcome};
use crate::{out, supervise};

/// Where the gateways' slots are in a container, unless the environment says otherwise.
const SCANDIR: &str = "/run/service";
/// Milliseconds that a gateway has to end before whoever stopped it goes on. They give up after five seconds.
const ENDS_WITHIN_MS: &str = "3000";

/// Runs the applet that this program is called as, or that `gatevisor s6 NAME` names.
///
/// `None` where it is neither, which leaves everything to the command line.
pub fn called(arguments: &[OsString]) -> Option<ExitCode> {
    let (applet, arguments) = match arguments {
        [program, arguments @ ..] if let Some(applet) = gatevisor_applets::find(program) => {
            (applet, arguments)
        }
        [_, verb, name, arguments @ ..] if verb == "s6" => (gatevisor_applets::find(name)?, arguments),
        _ => return None,
    };
    Some(ExitCode::from(be(applet, arguments)))
}

/// Runs the applet of this name, with its own arguments.
pub fn named(name: &OsStr, arguments: &[OsString]) -> Outcome {
    let Some(applet) = gatevisor_applets::find(name) else {
        let message = format!("there is no applet `{}`; `gatevisor applets list` lists them", name.display());
        return Err(Failure::new(Exit::Usage, message));
    };
    Ok(be(applet, arguments))
}

fn be(applet: &Applet, arguments: &[OsString]) -> u8 {
    let run = |arguments: &[OsString]| applet.run(arguments, |asked| supervise::svscan(&asked));
    match arguments {
        [flag, service] if applet.name == "s6-svc" && flag == "-d" => match gateway_of(Path::new(service)) {
            Some((manager, name)) => stop_gateway(&manager, &name, service, run),
            None => run(arguments),
        },
        _ => run(arguments),
    }
}

/// Returns whose gateway a service directory in a container is, and the manager of it.
fn gateway_of(service: &Path) -> Option<(ScandirManager, ProfileName)> {
    let name = ProfileName::of_service(service.file_name()?.as_bytes())?;
    let scandir = std::env::var_os("S6_PROFILE_GATEWAY_SCANDIR").unwrap_or_else(|| SCANDIR.into());
    let agent = AgentDefinition::load(None).ok()?;
    let home = Home::new(Path::new(&std::env::var_os(agent.home_variable())?)).ok()?;
    if service.parent()? != Path::new(&scandir) {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    Some((ScandirManager::new(agent, home, scandir.into(), program), name))
}

/// Brings a gateway down as the agent's own command line asks for it, which calls `s6-svc -d` and then records the wish.
///
/// The gateway is told in its own home that this is on purpose. The command line does so in the home of the profile that
/// it was called for; with `--all` that is one home for all gateways, and no gateway hears of it. Root does not write
/// where somebody else may put links; then the gateway reports a stop that nobody meant, and stops all the same.
///
/// And it has ended when this returns, unless it takes its time: at its end it writes the very file that the wish is
/// recorded in, and whoever reads it first takes back what the other wrote meanwhile.
///
/// **Source:** L-3, L-19.
fn stop_gateway(
    manager: &ScandirManager,
    name: &ProfileName,
    service: &OsStr,
    run: impl Fn(&[OsString]) -> u8,
) -> u8 {
    if !rustix::process::geteuid().is_root()
        && let Some(problem) = manager.announce_stop(name)
    {
        out::say(format_args!("warning: {problem}"));
    }
    let words = ["-wD", "-T", ENDS_WITHIN_MS, "-d"].map(OsString::from);
    let code = run(&[&words[..], &[service.to_owned()]].concat());
    // The command was sent, which is all that was asked for.
    if code == Exit::TimedOut as u8 { Exit::Done as u8 } else { code }
}

/// `gatevisor applets`.
pub fn run(verb: &Applets) -> Outcome {
    match verb {
        Applets::List => {
            for applet in APPLETS {
                out::line(format_args!("{:<14} {}", applet.name, applet.summary))?;
            }
        }
        Applets::Install { dir, relative, force } => {
            let program = std::env::current_exe().map_err(|error| {
                Failure::new(Exit::System, format!("cannot find out where this program is: {error}"))
            })?;
            let done = links::install(dir, &program, *relative, *force).map_err(|error| {
                let code = match error {
                    links::LinkError::InTheWay { .. } => Exit::No,
                    links::LinkError::Directory { .. } | links::LinkError::Make { .. } => Exit::System,
                };
                Failure::of(code as u8, &error)
            })?;
            let made = done.iter().filter(|(_, what)| *what == Installed::Made).count();
            out::say(format_args!("{made} of {} links made in `{}`", done.len(), dir.display()));
        }
    }
    DONE
}
