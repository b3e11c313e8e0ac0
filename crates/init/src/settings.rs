//! The small files of a service directory that change its supervision.
//!
//! Each is read when it matters, as in s6, so that a change takes effect without a restart. An
//! invalid file causes a warning and is ignored.

use std::os::fd::AsFd;

use gatevisor_core::restart::{MAX_CODES, RestartPolicy};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::handoff::ASKED_MARK;
use gatevisor_wire::script::{BYTE_ORDER_MARK, has_windows_end};
use gatevisor_wire::{files, number, signal, tally};
use rustix::fs::{AtFlags, statat};

use crate::service::SupervisedService;
use crate::stderr_log::say;

/// The most bytes of the first line of a small file.
const LINE_BYTES: usize = 64;

/// The default time in milliseconds that a finish script may take.
const TIMEOUT_FINISH_MS: u32 = 5000;

/// Returns the first line of a small file, or `None` if it is missing or cannot be read.
///
/// A line that is too long is cut off one byte beyond the limit, so that cutting cannot make it
/// valid.
fn first_line<'a>(
    dir: impl AsFd,
    service: &SupervisedService,
    name: &str,
    buffer: &'a mut [u8; LINE_BYTES + 1],
) -> Option<&'a [u8]> {
    match file::read_small(dir, name, buffer) {
        Ok(bytes) => bytes.split(|&b| b == b'\n').next(),
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        Err(errno) => {
            say!("warning: {}: cannot read `{name}`: {errno}; it is ignored", service.name());
            None
        }
    }
}

/// Returns the number in a small file of a service. An invalid one counts as missing.
pub(crate) fn number(service: &SupervisedService, name: &str) -> Option<u32> {
    number_in(service.dir(), service, name)
}

fn number_in(dir: impl AsFd, service: &SupervisedService, name: &str) -> Option<u32> {
    let mut buffer = [0; LINE_BYTES + 1];
    let line = first_line(dir, service, name, &mut buffer)?;
    let parsed = number::parse(line);
    if parsed.is_none() {
        let flaw = flaw_of(line, "not a number");
        say!("warning: {}: invalid `{name}`: {flaw}; it is ignored", service.name());
    }
    parsed
}

/// Returns why a line is not understood: because of a character at its end that no editor shows, or
/// else `what`.
fn flaw_of(line: &[u8], what: &'static str) -> &'static str {
    if has_windows_end(line) {
        "line ends of Windows"
    } else if line.starts_with(BYTE_ORDER_MARK) {
        "a byte-order mark before its first character"
    } else {
        what
    }
}

fn signal_or(service: &SupervisedService, name: &str, default: u8) -> u8 {
    let mut buffer = [0; LINE_BYTES + 1];
    let Some(line) = first_line(service.dir(), service, name, &mut buffer) else { return default };
    signal::parse(line).unwrap_or_else(|| {
        let flaw = flaw_of(line, "not a signal");
        say!("warning: {}: invalid `{name}`: {flaw}; the default is used", service.name());
        default
    })
}

/// Returns the signal that brings the service down.
pub(crate) fn down_signal(service: &SupervisedService) -> u8 {
    signal_or(service, files::DOWN_SIGNAL, signal::TERM)
}

/// Returns the signal that makes the service read its configuration again.
pub(crate) fn reload_signal(service: &SupervisedService) -> u8 {
    signal_or(service, files::RELOAD_SIGNAL, signal::HUP)
}

/// Returns the milliseconds from the down signal to `SIGKILL`; 0 means never.
pub(crate) fn timeout_kill_ms(service: &SupervisedService) -> u64 {
    number(service, files::TIMEOUT_KILL).map_or(0, u64::from)
}

/// Returns the milliseconds that `finish` may take; 0 means no limit.
pub(crate) fn timeout_finish_ms(service: &SupervisedService) -> u64 {
    u64::from(number(service, files::TIMEOUT_FINISH).unwrap_or(TIMEOUT_FINISH_MS))
}

/// Returns the number of a descriptor for `run` that a small file names.
pub(crate) fn descriptor(service: &SupervisedService, name: &str) -> Option<i32> {
    number(service, name).and_then(|number| i32::try_from(number).ok())
}

/// Returns how many deaths are remembered.
pub(crate) fn max_death_tally(service: &SupervisedService) -> usize {
    number(service, files::MAX_DEATH_TALLY)
        .and_then(|n| usize::try_from(n).ok())
        .map_or(tally::DEFAULT, |n| n.min(tally::MAX))
}

/// Returns the restart policy as far as it matters for a death. After the last one, only what ends
/// survivors does.
pub(crate) fn policy_at_death(service: &SupervisedService) -> RestartPolicy {
    if !service.machine().is_last() {
        return restart_policy(service);
    }
    let data = file::open_directory(service.dir(), files::DATA);
    RestartPolicy { kill_survivors: data.is_ok_and(kills_survivors), ..RestartPolicy::default() }
}

fn kills_survivors(data: impl AsFd) -> bool {
    let name = files::KILL_SURVIVORS.rsplit('/').next().unwrap_or_default();
    statat(data, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Returns the restart policy: the defaults, with the changes in `data/`.
pub(crate) fn restart_policy(service: &SupervisedService) -> RestartPolicy {
    let mut policy = RestartPolicy::default();
    let Ok(data) = file::open_directory(service.dir(), files::DATA) else { return policy };
    let read = |name: &str| number_in(&data, service, name);
    let set = |target: &mut u64, name: &str| {
        if let Some(value) = read(name) {
            *target = u64::from(value);
        }
    };
    set(&mut policy.backoff_first_ms, "backoff-first");
    set(&mut policy.backoff_max_ms, "backoff-max");
    set(&mut policy.stable_after_ms, "stable-after");
    policy.jitter_percent = read("backoff-jitter").unwrap_or(policy.jitter_percent);
    policy.give_up_after = read("give-up-after").unwrap_or(policy.give_up_after);
    policy.kill_survivors = kills_survivors(&data);
    if let Some(codes) = codes(&data, service, "restart-codes", asked_code) {
        let asked = codes.iter().filter(|(_, is_asked)| *is_asked);
        policy.handoff_codes = asked.map(|(code, _)| *code).collect();
        policy.restart_codes = codes.iter().filter(|(_, asked)| !asked).map(|(code, _)| *code).collect();
    }
    if let Some(codes) = codes(&data, service, "fail-codes", FailCode::parse) {
        policy.fail_codes = codes;
    }
    policy
}

/// Returns an exit code, and whether it has the question mark.
fn asked_code(word: &[u8]) -> Option<(u8, bool)> {
    let asked = word.strip_suffix(&[ASKED_MARK]);
    let code = number::parse(asked.unwrap_or(word)).and_then(|n| u8::try_from(n).ok())?;
    Some((code, asked.is_some()))
}

/// Returns the exit codes in a file of words separated by blanks. An empty file names none.
fn codes<T>(
    data: impl AsFd,
    service: &SupervisedService,
    name: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Option<Vec<T>> {
    let mut buffer = [0; LINE_BYTES + 1];
    let line = first_line(data, service, name, &mut buffer)?;
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let parsed: Option<Vec<T>> = words.map(parse).collect();
    match parsed {
        Some(codes) if codes.len() <= MAX_CODES && line.len() <= LINE_BYTES => Some(codes),
        Some(_) | None => {
            say!(
                "warning: {}: invalid `data/{name}`: at most {MAX_CODES} exit codes from 0 to 255 expected; it \
                 is ignored",
                service.name()
            );
            None
        }
    }
}
