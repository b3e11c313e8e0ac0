//! The parts of a slot: what was read can be written, and then reads the same.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use gatevisor_slot::{group, http, parse_log, parse_service, render_log, render_service};

const INTERPRETER: &str = "/bin/gatevisor";

pub fn run_file(bytes: &[u8]) {
    let Ok(file) = parse_service(bytes) else { return };
    assert!(!file.command.is_empty());
    let _ = file.umask_bits();
    if let Ok(text) = render_service(Path::new(INTERPRETER), &file, "a comment") {
        assert_eq!(parse_service(&text).as_ref(), Ok(&file));
    }
}

pub fn log_run_file(bytes: &[u8]) {
    let Ok(file) = parse_log(bytes) else { return };
    let _ = file.patterns();
    if let Ok(text) = render_log(Path::new(INTERPRETER), &file, "a comment") {
        assert_eq!(parse_log(&text).as_ref(), Ok(&file));
    }
}

pub fn group_number(bytes: &[u8]) {
    let Some(number) = group::parse(bytes) else { return };
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let text = str::from_utf8(line).expect("a number is text");
    assert_eq!(text.parse(), Ok(number));
    for bound in group::Bound::ALL {
        if bound.check(number).is_ok() {
            assert!(number > 0 && i64::try_from(number).is_ok());
        }
    }
}

pub fn dotenv(bytes: &[u8]) {
    for (name, value) in gatevisor_slot::dotenv::parse(bytes) {
        assert!(!name.is_empty() && !name.contains('='));
        assert!(
            !value.as_encoded_bytes().contains(&b'\n') || bytes.contains(&b'\n') || bytes.contains(&b'\\')
        );
    }
}

pub fn expand(bytes: &[u8]) {
    let Ok(template) = str::from_utf8(bytes) else { return };
    let lookup = |name: &str| match name.len() % 3 {
        0 => None,
        1 => Some(OsString::new()),
        _ => Some(OsString::from("value")),
    };
    if let Ok(text) = gatevisor_slot::expand(template, &lookup)
        && !template.contains('$')
    {
        assert_eq!(text, template);
    }
    let _ = gatevisor_slot::expand::is_truthy(OsStr::new(template));
}

pub fn health_url(bytes: &[u8]) {
    if let Ok(url) = str::from_utf8(bytes) {
        let _ = http::parse_url(url);
    }
}

pub fn health_answer(bytes: &[u8]) {
    if let Some(code) = http::status(bytes) {
        assert!(code < 1000, "{code}");
    }
}
