//! The server of the page beside a supervisor, for `gatevisor up --web`.
//!
//! *Lives here:* starting it as a program of its own, as if somebody had typed `gatevisor web`.
//! *Does not live here:* the server (`web`), and keeping it running (`keeper`).

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

use gatevisor_sys::{environment, process};
use rustix::io::Errno;

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::keeper::Kept;
use crate::out;

/// Returns the server of the page at this address, for a keeper.
pub fn kept<'a>(context: &'a CommandContext, address: &'a str) -> Kept<'a> {
    let job = Box::new(move || {
        let (program, error) = (context.program.display(), become_server(context, address));
        let why = format!("cannot execute `{program}`, so nobody serves the page: {error}");
        i32::from(out::fail(&CommandError::new(Exit::System, why)))
    });
    Kept { what: "the server of the page", job, pulse: None, is_wanted: None }
}

/// Becomes the server. Returns only if that fails.
fn become_server(context: &CommandContext, address: &str) -> io::Error {
    let words = context.word_options().into_iter().chain(["web", "--listen", address].map(OsString::from));
    let all = std::iter::once(context.program.clone().into_os_string()).chain(words);
    let argv: Result<Vec<CString>, _> = all.map(|word| CString::new(word.into_vec())).collect();
    let Ok(argv) = argv else { return Errno::INVAL.into() };
    let Some(program) = argv.first() else { return Errno::INVAL.into() };
    match environment::block(&environment::inherited(std::env::vars_os().collect())) {
        Ok(block) => process::exec(program, &argv, &block).into(),
        Err(errno) => errno.into(),
    }
}
