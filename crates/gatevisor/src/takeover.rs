//! `gatevisor takeover`: waits until the container that runs the gateways of this home is gone, then has them started here.
//!
//! A service like any other, of the agent's user: it is in the scandir of each container that found the home taken.

use std::ffi::OsStr;
use std::path::PathBuf;

use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::volume;
use gatevisor_client::ServiceDir;
use gatevisor_gateways::profile::Home;
use gatevisor_gateways::reconcile::{Settings, Verdict, take_over};
use gatevisor_wire::control::Control;
use jiff::Zoned;

use crate::exit::{Exit, Failure};
use crate::{enter, out};

/// What this is called in the scandir, and as a verb.
pub const NAME: &str = "takeover";

/// Waits for the home, starts what is wished, and returns what holds the home from then on.
pub fn run() -> Result<std::os::fd::OwnedFd, Failure> {
    let agent = enter::agent()?;
    let variables: Vec<Variable> = std::env::vars_os().collect();
    let home = enter::home(&agent, &variables)?;
    let scandir = environment::get(&variables, crate::init::SCANDIR_VARIABLE).filter(|path| !path.is_empty());
    let scandir = scandir.map_or_else(|| PathBuf::from(crate::context::CONTAINER_SCANDIR), PathBuf::from);
    let lock = volume::take(&home).map_err(|errno| {
        Failure::new(Exit::System, format!("cannot wait for the home `{}`: {errno}", home.display()))
    })?;
    out::say(format_args!(
        "taking over the gateways of `{}`: the container that ran them is gone",
        home.display()
    ));
    let home = Home::new(&home).map_err(|error| Failure::of(error.exit_code(), &error))?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::System, format!("cannot find this program's own file: {error}"))
    })?;
    let settings = Settings {
        agent: &agent,
        home: &home,
        scandir: &scandir,
        interpreter: &program,
        container_argv: &[],
        elsewhere: false,
        variable: &|name| environment::get(&variables, name).map(OsStr::to_owned),
        now: Zoned::now(),
    };
    let report = take_over(&settings).map_err(|error| Failure::of(error.exit_code(), &error))?;
    for line in report.lines() {
        out::line(format_args!("{line}"))?;
    }
    let wanted = report.actions.iter().filter(|action| action.action == Verdict::Started);
    for name in wanted.filter_map(|action| action.name.as_ref()) {
        let slot = ServiceDir::new(scandir.join(name.service_entry()));
        if let Err(error) = slot.send(&[Control::Up]) {
            out::warn(&Failure::of(Exit::System as u8, &error).message);
        }
    }
    Ok(lock)
}
