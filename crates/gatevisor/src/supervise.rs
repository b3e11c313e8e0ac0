//! `gatevisor supervise`: the supervisor itself, with nothing else in its memory.
//!
//! `gatevisor up` prepares the home and then becomes this, so that the process that must never die holds
//! neither a TOML parser nor a profile.

use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gatevisor_applets::svscan::Svscan;
use gatevisor_client::ScanDir;
use gatevisor_core::restart::Rules;
use gatevisor_init::{Config, Container, ServiceLimits};
use gatevisor_sys::environment;

use crate::out;

/// Milliseconds that an orderly shutdown may take where nothing else is said.
const GRACE_MS: u64 = 30_000;

/// How long a process may be on its way to its program after its supervisor was killed.
const OUTLIVED_WITHIN: Duration = Duration::from_secs(5);

/// A grace that no shutdown outlives: some weeks.
const NEVER_MS: u64 = u32::MAX as u64;

/// How it is called.
pub const USAGE: &str = "gatevisor supervise [--grace-ms N] [--max-services-of-user N] [--max-services N] [--s6-timing] [--label-output] [--comm NAME] [--command-fd N [--stop-first PREFIX]] SCANDIR [-- …]";

/// Runs the supervisor on the scandir named by `arguments`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let Some(config) = parse(arguments) else {
        out::say(format_args!("usage: {USAGE}"));
        return ExitCode::from(100);
    };
    ScanDir::new(&config.scandir).outlive(outlived_by());
    let ended = match &config.container {
        Some(_) => gatevisor_init::run_container(config),
        None => gatevisor_init::run(config).map(|()| 0),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            out::say(format_args!("fatal: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Returns until when what a killed supervisor left on its way to its program is waited for.
pub fn outlived_by() -> Option<Instant> {
    Instant::now().checked_add(OUTLIVED_WITHIN)
}

fn parse(arguments: &[OsString]) -> Option<Config> {
    let mut grace_ms = GRACE_MS;
    let mut rules = Rules::Native;
    let mut limits = ServiceLimits::default();
    let mut scandir = None;
    let mut command = None;
    let mut stop_first = Vec::new();
    let mut label_output = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--grace-ms") => grace_ms = words.next()?.to_str()?.parse().ok()?,
            Some("--max-services-of-user") => limits.of_one_owner = words.next()?.to_str()?.parse().ok()?,
            Some("--max-services") => limits.in_all = words.next()?.to_str()?.parse().ok()?,
            Some("--label-output") => label_output = true,
            Some("--s6-timing") => rules = Rules::S6,
            Some("--comm") => {
                let name = CString::new(words.next()?.as_bytes()).ok()?;
                // Whoever looks for the name sees another one; nothing else depends on it.
                let _ = rustix::thread::set_name(&name);
            }
            Some("--command-fd") => command = Some(unpacked(words.next()?.to_str()?.parse().ok()?)?),
            Some("--stop-first") => stop_first = words.next()?.as_bytes().to_vec(),
            // What follows is for those who look at our command line.
            Some("--") => break,
            _ if scandir.is_none() => scandir = Some(PathBuf::from(word)),
            _ => return None,
        }
    }
    let is_root_in_container = command.is_some() && rustix::process::geteuid().is_root();
    Some(Config {
        scandir: scandir?,
        rules,
        grace_ms,
        environment: environment(),
        // Root's services need not be told by whoever started the container what is meant for the agent's.
        own_environment: is_root_in_container.then(environment_of_root),
        program: gatevisor_sys::process::own_program().ok()?,
        limits,
        label_output,
        container: command.map(|command| Container { command, stop_first }),
    })
}

/// Returns the words of a command as they are handed to the supervisor: in a file without a name, because what stands
/// on a command line can be seen and is taken for something else.
pub fn packed(words: &[OsString]) -> Vec<u8> {
    words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
}

fn unpacked(number: i32) -> Option<Vec<CString>> {
    let mut bytes = Vec::new();
    std::fs::File::from(gatevisor_sys::process::adopt_fd(number).ok()?).read_to_end(&mut bytes).ok()?;
    bytes.split_inclusive(|&b| b == 0).map(|word| CString::from_vec_with_nul(word.to_vec()).ok()).collect()
}

/// Supervises a scandir as `s6-svscan` was asked to, and returns the exit code.
///
/// A shutdown is never cut short here, as under s6: services set their own `timeout-kill`.
pub fn svscan(asked: &Svscan) -> u8 {
    let (notify, program) = match prepare(asked) {
        Ok(prepared) => prepared,
        Err((code, message)) => {
            out::say(format_args!("{}: fatal: {message}", gatevisor_applets::svscan::NAME));
            return code;
        }
    };
    let config = Config {
        scandir: asked.scandir.clone(),
        rules: Rules::S6,
        grace_ms: NEVER_MS,
        environment: environment(),
        own_environment: None,
        program,
        limits: ServiceLimits::default(),
        label_output: false,
        container: None,
    };
    let ready = || {
        if let Some(notify) = notify {
            // Whoever asked may have lost interest, which is no reason not to supervise.
            let _ = rustix::io::write(&notify, b"\n");
        }
    };
    match gatevisor_init::run_then(config, ready) {
        Ok(()) => 0,
        Err(error) => {
            out::say(format_args!("{}: fatal: {error}", gatevisor_applets::svscan::NAME));
            error.exit_code()
        }
    }
}

/// Returns the descriptor to notify and the path of this program, or an exit code and why not.
fn prepare(asked: &Svscan) -> Result<(Option<OwnedFd>, PathBuf), (u8, String)> {
    let notify = asked.notify.map(gatevisor_sys::process::adopt_fd).transpose();
    let notify = notify.map_err(|error| (100, format!("invalid notification fd: {error}")))?;
    if !asked.scandir.is_dir() {
        return Err((111, format!("there is no scandir `{}`", asked.scandir.display())));
    }
    let program = gatevisor_sys::process::own_program();
    let program =
        program.map_err(|error| (111, format!("cannot find out where this program is: {error}")))?;
    Ok((notify, program))
}

fn environment() -> Vec<CString> {
    environment::block(&std::env::vars_os().collect::<Vec<_>>()).unwrap_or_default()
}

fn environment_of_root() -> Vec<CString> {
    environment::block(&environment::inherited_by_root(std::env::vars_os().collect()).0).unwrap_or_default()
}
