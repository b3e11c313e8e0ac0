//! The small files of a service directory that change how it is supervised.
//!
//! Each is read when it matters, as s6 does, so that a change takes effect without a restart of
//! anything. An invalid one is warned of and ignored.

use std::os::fd::AsFd;

use gatevisor_core::restart::{MAX_CODES, RestartPolicy};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::script::{BYTE_ORDER_MARK, has_windows_end};
use gatevisor_wire::{files, number, signal, tally};
use rustix::fs::{AtFlags, statat};

use crate::stderr_log::say;

/// Bytes that the first line of a small file may have.
const LINE_BYTES: usize = 64;

/// Milliseconds a finish script may take where nothing else is said.
const TIMEOUT_FINISH_MS: u32 = 5000;

/// Returns the first line of a small file, or `None` when it is missing or cannot be read.
///
/// A line that is too long is one byte longer than allowed, so that what was cut off cannot change
/// its meaning.
fn first_line<'a>(
    dir: impl AsFd,
    service: &str,
    name: &str,
    buffer: &'a mut [u8; LINE_BYTES + 1],
) -> Option<&'a [u8]> {
    match file::read_small(dir, name, buffer) {
        Ok(bytes) => bytes.split(|&b| b == b'\n').next(),
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        Err(errno) => {
            say!("warning: {service}: cannot read `{name}`: {errno}; it is ignored");
            None
        }
    }
}

/// Returns the number in a small file; an invalid one counts as missing.
pub(crate) fn number(dir: impl AsFd, service: &str, name: &str) -> Option<u32> {
    let mut buffer = [0; LINE_BYTES + 1];
    let line = first_line(dir, service, name, &mut buffer)?;
    let parsed = number::parse(line);
    if parsed.is_none() {
        say!("warning: {service}: invalid `{name}`: {}; it is ignored", flaw_of(line, "not a number"));
    }
    parsed
}

/// Returns why a line is not understood: the character at its end that no editor shows, or else
/// `what`.
fn flaw_of(line: &[u8], what: &'static str) -> &'static str {
    if has_windows_end(line) {
        "line ends of Windows"
    } else if line.starts_with(BYTE_ORDER_MARK) {
        "a byte-order mark before its first character"
    } else {
        what
    }
}

fn signal_or(dir: impl AsFd, service: &str, name: &str, default: u8) -> u8 {
    let mut buffer = [0; LINE_BYTES + 1];
    let Some(line) = first_line(dir, service, name, &mut buffer) else { return default };
    signal::parse(line).unwrap_or_else(|| {
        say!("warning: {service}: invalid `{name}`: {}; the default is used", flaw_of(line, "not a signal"));
        default
    })
}

/// Returns the signal that brings the service down.
pub(crate) fn down_signal(dir: impl AsFd, service: &str) -> u8 {
    signal_or(dir, service, files::DOWN_SIGNAL, signal::TERM)
}

/// Returns the signal that makes the service read its configuration again.
pub(crate) fn reload_signal(dir: impl AsFd, service: &str) -> u8 {
    signal_or(dir, service, files::RELOAD_SIGNAL, signal::HUP)
}

/// Returns the milliseconds from the down signal to `SIGKILL`; 0: never.
pub(crate) fn timeout_kill_ms(dir: impl AsFd, service: &str) -> u64 {
    number(dir, service, files::TIMEOUT_KILL).map_or(0, u64::from)
}

/// Returns the milliseconds that `finish` may take; 0: for ever.
pub(crate) fn timeout_finish_ms(dir: impl AsFd, service: &str) -> u64 {
    u64::from(number(dir, service, files::TIMEOUT_FINISH).unwrap_or(TIMEOUT_FINISH_MS))
}

/// Returns how many deaths are remembered.
pub(crate) fn max_death_tally(dir: impl AsFd, service: &str) -> usize {
    number(dir, service, files::MAX_DEATH_TALLY)
        .and_then(|n| usize::try_from(n).ok())
        .map_or(tally::DEFAULT, |n| n.min(tally::MAX))
}

/// Returns the restart policy: the defaults, changed by what `data/` says.
pub(crate) fn restart_policy(dir: impl AsFd, service: &str) -> RestartPolicy {
    let mut policy = RestartPolicy::default();
    let Ok(data) = file::open_directory(&dir, files::DATA) else { return policy };
    let read = |name: &str| number(&data, service, name);
    let set = |target: &mut u64, name: &str| {
        if let Some(value) = read(name) {
            *target = u64::from(value);
        }
    };
    set(&mut policy.backoff_first_ms, "backoff-first");
    set(&mut policy.backoff_max_ms, "backoff-max");
    set(&mut policy.stable_after_ms, "stable-after");
    if let Some(percent) = read("backoff-jitter") {
        policy.jitter_percent = percent;
    }
    if let Some(times) = read("give-up-after") {
        policy.give_up_after = times;
    }
    let name = files::KILL_SURVIVORS.rsplit('/').next().unwrap_or_default();
    policy.kill_survivors = statat(&data, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if let Some(codes) = codes(&data, service, "restart-codes") {
        policy.restart_codes = codes;
    }
    if let Some(codes) = codes(&data, service, "fail-codes") {
        policy.fail_codes = codes;
    }
    policy
}

/// Returns the exit codes in a file of numbers with blanks between them; an empty file names none.
fn codes(data: impl AsFd, service: &str, name: &str) -> Option<Vec<u8>> {
    let mut buffer = [0; LINE_BYTES + 1];
    let line = first_line(data, service, name, &mut buffer)?;
    let parsed: Option<Vec<u8>> = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| number::parse(word).and_then(|n| u8::try_from(n).ok()))
        .collect();
    match parsed {
        Some(codes) if codes.len() <= MAX_CODES && line.len() <= LINE_BYTES => Some(codes),
        Some(_) | None => {
            say!(
                "warning: {service}: invalid `data/{name}`: at most {MAX_CODES} exit codes from 0 to 255 expected; it \
                 is ignored"
            );
            None
        }
    }
}
