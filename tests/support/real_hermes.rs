//! The real Hermes from PyPI, and homes for it.
//!
//! Hermes 0.19 is `HERMES_BIN`, and other versions what the caller names, or else the ones that
//! `scripts/hermes-venv.sh` makes and keeps. The binary is `GATEVISOR_BIN`, or else the one built
//! with the tests.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "a panic in a test says what is wrong")]

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::home::{Home, Port};

/// Returns the program of Hermes 0.19.
pub fn hermes() -> PathBuf {
    installed("HERMES_BIN", "0.19")
}

/// Returns the program that a variable names, or else the one that is made and kept.
pub fn installed(variable: &str, version: &str) -> PathBuf {
    if let Some(program) = std::env::var_os(variable).filter(|program| !program.is_empty()) {
        return program.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/hermes-venv.sh");
    let output =
        Command::new(script).arg(version).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "there is no Hermes to test with: {output:?}");
    Path::new(String::from_utf8(output.stdout).unwrap().trim_end()).join("bin/hermes")
}

/// Returns an empty home for Hermes 0.19.
pub fn with_hermes() -> Home {
    with_program(hermes())
}

/// Returns an empty home for this Hermes.
pub fn with_program(program: PathBuf) -> Home {
    let mut home = Home::built_in();
    home.set("HERMES_BIN", program);
    // Otherwise Hermes would download a helper program, which nothing here needs.
    home.set("TIRITH_ENABLED", "false");
    if let Some(program) = std::env::var_os("GATEVISOR_BIN").filter(|program| !program.is_empty()) {
        home.use_program(program.into());
    }
    home
}

/// Gives a profile what Hermes needs to answer over HTTP.
pub fn configure(home: &Home, profile: &str) -> Port {
    use std::io::{Read, Write};
    let port = Port::free();
    let mut key = [0; 16];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
    let key = format!("{:032x}", u128::from_ne_bytes(key));
    let file = home.profile_dir(profile).join(".env");
    let _ = fs::remove_file(&file);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).unwrap();
    let number = port.number;
    write!(
        file,
        "API_SERVER_ENABLED=true\nAPI_SERVER_HOST=127.0.0.1\nAPI_SERVER_PORT={number}\nAPI_SERVER_KEY={key}\n"
    )
    .unwrap();
    port
}
