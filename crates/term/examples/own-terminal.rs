//! Executes its arguments on a terminal of their own, as a user by number: the program of this
//! crate's tests.
//!
//! `own-terminal UID PROGRAM [ARGUMENT …]`

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use gatevisor_sys::environment::{DEFAULT_PATH, ProgramEnvironment};
use gatevisor_sys::{process, signal, user};
use gatevisor_term::{relay, stream};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(uid) = words.next().and_then(|word| word.to_str()?.parse().ok()) else {
        stream::say("usage: own-terminal UID PROGRAM [ARGUMENT …]");
        return ExitCode::from(100);
    };
    let words: Vec<CString> = words.filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
    if let Err(error) = relay::leave_terminal(uid) {
        stream::say(format_args!("own-terminal: {error}"));
        return ExitCode::from(111);
    }
    if let Ok(user) = user::lookup_uid(uid)
        && rustix::process::geteuid().is_root()
        && let Err(errno) = user::assume(&user)
    {
        stream::say(format_args!("own-terminal: cannot become uid {uid}: {errno}"));
        return ExitCode::from(111);
    }
    let Ok(environment) = ProgramEnvironment::new(std::env::vars_os().collect(), DEFAULT_PATH) else {
        return ExitCode::from(111);
    };
    signal::restore(signal::SIGPIPE);
    let errno = process::exec_search(&words, &environment);
    stream::say(format_args!("own-terminal: {errno}"));
    ExitCode::from(127)
}
