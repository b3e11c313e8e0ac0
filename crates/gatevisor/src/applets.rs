//! Running as one of s6's tools, and making the links for that.
//!
//! *Lives here:* finding out that we are called as an applet, and `gatevisor applets`.
//! *Does not live here:* the applets, and the further meaning of stopping a gateway
//! (`planned_stop`).

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use gatevisor_applets::links::{self, Installed};
use gatevisor_applets::{APPLETS, Applet};

use crate::args::Applets;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::{out, planned_stop, supervise};

/// Runs the applet by whose name this program is called, or that `gatevisor s6 NAME` names.
///
/// `None` if it is neither; then the command line handles it.
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

/// Runs the applet with this name and its own arguments.
pub fn named(name: &OsStr, arguments: &[OsString]) -> Outcome {
    let Some(applet) = gatevisor_applets::find(name) else {
        let message = format!("there is no applet `{}`; `gatevisor applets list` lists them", name.display());
        return Err(CommandError::new(Exit::Usage, message));
    };
    Ok(be(applet, arguments))
}

fn be(applet: &Applet, arguments: &[OsString]) -> u8 {
    let run = |arguments: &[OsString]| applet.run(arguments, |asked| supervise::svscan(&asked));
    match arguments {
        [flag, service] if applet.name == "s6-svc" && flag == "-d" => {
            planned_stop::run(service, run).unwrap_or_else(|| run(arguments))
        }
        _ => run(arguments),
    }
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
            let program = gatevisor_sys::process::own_program().map_err(|error| {
                CommandError::new(Exit::System, format!("cannot find out where this program is: {error}"))
            })?;
            let done = links::install(dir, &program, *relative, *force)?;
            let made = done.iter().filter(|(_, what)| *what == Installed::Made).count();
            out::say(format_args!("{made} of {} links made in `{}`", done.len(), dir.display()));
        }
    }
    DONE
}
