//! `gatevisor takeover`: waits until the container that runs the gateways of this home is gone, then has them started here
//! and watches the profiles in its place.
//!
//! A service like any other, of the agent's user: it is in the scandir of each container that found the home taken.

use std::ffi::OsStr;
use std::sync::Arc;

use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::volume;
use gatevisor_client::ServiceDir;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::reconcile::{Settings, Verdict, take_over};
use gatevisor_gateways::watch::Watcher;
use gatevisor_paths::OpenHome;
use gatevisor_wire::control::Control;
use jiff::Zoned;

use crate::exit::{Exit, Failure};
use crate::{enter, out, watch};

/// What this is called in the scandir, and as a verb.
pub const NAME: &str = "takeover";

/// Waits for the home, starts what is wished, and watches the profiles; returns only why it cannot any longer.
pub fn run() -> Failure {
    let variables: Vec<Variable> = std::env::vars_os().collect();
    perform(&variables).unwrap_or_else(|failure| failure)
}

fn perform(variables: &[Variable]) -> Result<Failure, Failure> {
    let manager = Arc::new(enter::manager(variables)?);
    let home = manager.home().root();
    // The slots here are those of the profiles that were there when this container began to wait.
    let mut watcher =
        Watcher::new(Arc::clone(&manager), watch::tell).map_err(|error| watch::failure(&error))?;
    let opened = OpenHome::open(home).map_err(|error| Failure::new(Exit::System, error.to_string()))?;
    let _held = volume::take(&opened).map_err(|errno| {
        Failure::new(Exit::System, format!("cannot wait for the home `{}`: {errno}", home.display()))
    })?;
    out::say(format_args!(
        "taking over the gateways of `{}`: the container that ran them is gone",
        home.display()
    ));
    watcher.catch_up().map_err(|error| watch::failure(&error))?;
    start(&manager, variables)?;
    Ok(watch::failure(&watcher.run()))
}

/// Starts what is wished, after the rest of its last life was cleaned up.
fn start(manager: &ScandirManager, variables: &[Variable]) -> Result<(), Failure> {
    let program = gatevisor_sys::process::own_program().map_err(|error| {
        Failure::new(Exit::System, format!("cannot find this program's own file: {error}"))
    })?;
    let settings = Settings {
        agent: manager.agent(),
        home: manager.home(),
        scandir: manager.scandir(),
        interpreter: &program,
        container_argv: &[],
        elsewhere: false,
        variable: &|name| environment::get(variables, name).map(OsStr::to_owned),
        now: Zoned::now(),
    };
    let report = take_over(&settings).map_err(|error| Failure::of(error.exit_code(), &error))?;
    for line in report.lines() {
        out::line(format_args!("{line}"))?;
    }
    let wanted = report.actions.iter().filter(|action| action.action == Verdict::Started);
    for name in wanted.filter_map(|action| action.name.as_ref()) {
        let slot = ServiceDir::new(manager.scandir().join(name.service_entry()));
        if let Err(error) = slot.send(&[Control::Up]) {
            out::warn(&Failure::of(Exit::System as u8, &error).message);
        }
    }
    Ok(())
}
