//! The server of the page beside a supervisor, for `gatevisor up --web`.
//!
//! *Lives here:* starting it as a program of its own, as if somebody had typed `gatevisor web`.
//! *Does not live here:* the server (`web`), and keeping it running (`keeper`).

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;

use gatevisor_sys::call;

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
    let options = ["--home", "--scandir", "--agent"].into_iter().map(OsString::from);
    let words = options.zip(context.words()).flat_map(|(option, value)| [option, value]);
    match call::command(&context.program) {
        Ok(mut command) => command.args(words).args(["web", "--listen", address]).exec(),
        Err(error) => error,
    }
}
