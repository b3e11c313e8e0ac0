//! `gatevisor supervise`: the supervisor itself, with nothing else in its memory.
//!
//! `gatevisor up` prepares the home and then becomes this. So the process that must never die holds
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
use gatevisor_init::{Config, Container, HostManager, ServiceLimits};
use gatevisor_sys::{environment, file};
use gatevisor_wire::exit::Exit;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use crate::out;

/// The default time in milliseconds for an orderly shutdown.
const GRACE_MS: u64 = 30_000;

/// How long a process that was being started may outlive its killed supervisor.
const OUTLIVED_WITHIN: Duration = Duration::from_secs(5);

/// A grace that is longer than every shutdown: some weeks.
const NEVER_MS: u64 = u32::MAX as u64;

/// The answer to a wrong call.
pub const USAGE: &str = "gatevisor supervise [--grace-ms N] [--max-services-of-user N]
       [--max-services N] [--s6-timing] [--label-output] [--notify-fd N] [--beside-fd N]
       [--comm NAME] [--command-fd N [--stop-first PREFIX]] SCANDIR [-- …]";

/// Runs the supervisor on the scandir named by `arguments`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let Some((config, notify)) = parse(arguments) else {
        let usage: Vec<&str> = USAGE.split_whitespace().collect();
        out::say(format_args!("usage: {}", usage.join(" ")));
        return Exit::Usage.into();
    };
    ScanDir::new(&config.scandir).outlive(outlived_by());
    let ended = match &config.container {
        Some(_) => gatevisor_init::run_container(config),
        None => gatevisor_init::run_then(config, || notified(notify)).map(|()| 0),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            out::say(format_args!("fatal: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Returns until when to wait for processes that a killed supervisor was starting.
pub fn outlived_by() -> Option<Instant> {
    Instant::now().checked_add(OUTLIVED_WITHIN)
}

/// Returns the settings in the arguments, and the descriptor for the notification.
fn parse(arguments: &[OsString]) -> Option<(Config, Option<OwnedFd>)> {
    let mut grace_ms = GRACE_MS;
    let mut rules = Rules::Native;
    let mut limits = ServiceLimits::default();
    let mut scandir = None;
    let mut command = None;
    let mut companion = Vec::new();
    let mut stop_first = Vec::new();
    let mut label_output = false;
    let mut notify = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--grace-ms") => grace_ms = words.next()?.to_str()?.parse().ok()?,
            Some("--max-services-of-user") => limits.of_one_owner = words.next()?.to_str()?.parse().ok()?,
            Some("--max-services") => limits.in_all = words.next()?.to_str()?.parse().ok()?,
            Some("--label-output") => label_output = true,
            Some("--notify-fd") => {
                let number = words.next()?.to_str()?.parse().ok()?;
                notify = Some(gatevisor_sys::process::adopt_fd(number).ok()?);
            }
            Some("--s6-timing") => rules = Rules::S6,
            Some("--comm") => {
                let name = CString::new(words.next()?.as_bytes()).ok()?;
                // Programs that look for the name see another one; nothing else depends on it.
                let _ = rustix::thread::set_name(&name);
            }
            Some("--beside-fd") => companion = unpacked(words.next()?.to_str()?.parse().ok()?)?,
            Some("--command-fd") => command = Some(unpacked(words.next()?.to_str()?.parse().ok()?)?),
            Some("--stop-first") => stop_first = words.next()?.as_bytes().to_vec(),
            // The remaining words are for people who look at our command line.
            Some("--") => break,
            _ if scandir.is_none() => scandir = Some(PathBuf::from(word)),
            _ => return None,
        }
    }
    let is_root_in_container = command.is_some() && rustix::process::geteuid().is_root();
    let config = Config {
        scandir: scandir?,
        rules,
        grace_ms,
        environment: environment_of_services(),
        // Root's services need not receive the environment that the container was given for the
        // agent.
        own_environment: is_root_in_container.then(environment_of_root),
        program: gatevisor_sys::process::own_program().ok()?,
        limits,
        label_output,
        host: host_manager(),
        companion,
        container: command.map(|command| Container { command, stop_first }),
    };
    Some((config, notify))
}

/// Notifies the waiting process that the supervisor supervises.
fn notified(notify: Option<OwnedFd>) {
    if let Some(notify) = notify {
        // The waiting process may have gone, which is no reason not to supervise.
        let _ = rustix::io::write(&notify, b"\n");
    }
}

/// Returns an open file with the arguments of a command, which the supervisor reads. The file has
/// no name. A command line would be visible, and its words could be mistaken for options.
pub fn passed(words: &[OsString]) -> Result<OwnedFd, Errno> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let fd = memfd_create("command", MemfdFlags::empty())?;
    file::write_all(&fd, &bytes)?;
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    Ok(fd)
}

fn unpacked(number: i32) -> Option<Vec<CString>> {
    let mut bytes = Vec::new();
    std::fs::File::from(gatevisor_sys::process::adopt_fd(number).ok()?).read_to_end(&mut bytes).ok()?;
    bytes.split_inclusive(|&b| b == 0).map(|word| CString::from_vec_with_nul(word.to_vec()).ok()).collect()
}

/// Supervises a scandir with the settings of `s6-svscan`, and returns the exit code.
///
/// As under s6, a shutdown is never cut short here: services set their own `timeout-kill`.
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
        host: None,
        companion: Vec::new(),
        container: None,
    };
    match gatevisor_init::run_then(config, || notified(notify)) {
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
    let notify = notify.map_err(|error| (Exit::Usage.code(), format!("invalid notification fd: {error}")))?;
    if !asked.scandir.is_dir() {
        return Err((Exit::System.code(), format!("there is no scandir `{}`", asked.scandir.display())));
    }
    let program = gatevisor_sys::process::own_program();
    let program = program
        .map_err(|error| (Exit::System.code(), format!("cannot find out where this program is: {error}")))?;
    Ok((notify, program))
}

/// Returns the service manager of the host, if it expects notifications from this process.
fn host_manager() -> Option<HostManager> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    let socket = variable("NOTIFY_SOCKET")?;
    // A limit that is meant for another process is none of ours.
    let is_for_us = variable("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).ok();
    let watchdog_us = number("WATCHDOG_USEC").filter(|limit| is_for_us && *limit > 0);
    Some(HostManager { socket, watchdog_us })
}

/// Returns the environment of every service: nothing that the service manager of the host has set
/// for us.
fn environment_of_services() -> Vec<CString> {
    environment::block(&environment::without_messages_to_us(std::env::vars_os().collect()))
        .unwrap_or_default()
}

fn environment() -> Vec<CString> {
    environment::block(&std::env::vars_os().collect::<Vec<_>>()).unwrap_or_default()
}

fn environment_of_root() -> Vec<CString> {
    let variables = environment::without_messages_to_us(std::env::vars_os().collect());
    environment::block(&environment::inherited_by_root(variables).0).unwrap_or_default()
}
