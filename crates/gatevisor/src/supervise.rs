//! `gatevisor supervise`: the supervisor itself, with nothing else in its memory.
//!
//! `gatevisor up` prepares the home and then becomes this, so that the process that must never die holds
//! neither a TOML parser nor a profile.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use gatevisor_core::restart::Rules;
use gatevisor_init::Config;

use crate::out;

/// Milliseconds that an orderly shutdown may take where nothing else is said.
const GRACE_MS: u64 = 30_000;

const USAGE: &str = "usage: gatevisor supervise [--grace-ms N] [--s6-timing] SCANDIR";

/// Runs the supervisor on the scandir named by `arguments`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let Some(config) = parse(arguments) else {
        out::say(format_args!("{USAGE}"));
        return ExitCode::from(100);
    };
    match gatevisor_init::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::say(format_args!("fatal: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn parse(arguments: &[OsString]) -> Option<Config> {
    let mut grace_ms = GRACE_MS;
    let mut rules = Rules::Native;
    let mut scandir = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--grace-ms") => grace_ms = words.next()?.to_str()?.parse().ok()?,
            Some("--s6-timing") => rules = Rules::S6,
            _ if scandir.is_none() => scandir = Some(PathBuf::from(word)),
            _ => return None,
        }
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut pair = name.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            CString::new(pair).ok()
        })
        .collect();
    Some(Config { scandir: scandir?, rules, grace_ms, environment, program: std::env::current_exe().ok()? })
}
