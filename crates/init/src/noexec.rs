//! Scripts on a file system from which nothing may be executed, as a container's `/run` often is.
//!
//! *Lives here:* executing the interpreter of such a script, which the kernel does otherwise.
//! *Does not live here:* whether the script is trusted.
//!
//! **Source:** execve(2), *Interpreter scripts*; DET-7.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use gatevisor_sys::file;
use rustix::fs::{StatVfsMountFlags, fstatvfs};

/// The part of a first line that the kernel reads, in bytes.
const LINE_BYTES: usize = 256;

/// A program to execute, with all its arguments.
pub(crate) type Program = (CString, Vec<CString>);

/// Returns what to execute for the script `name`, called as `./name` with these arguments.
///
/// That is the script itself, unless it has an interpreter and is on such a file system.
pub(crate) fn program(dir: impl AsFd, name: &CStr, arguments: Vec<CString>) -> Program {
    let dir = dir.as_fd();
    let path = CString::new([b"./", name.to_bytes()].concat()).unwrap_or_default();
    let forbidden = fstatvfs(dir).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC));
    let mut head = [0; LINE_BYTES];
    let interpreted = forbidden
        .then(|| file::read_small(dir, name, &mut head).ok())
        .flatten()
        .and_then(|head| interpreter(head, &path, &arguments));
    interpreted.unwrap_or_else(|| {
        let argv = std::iter::once(name.to_owned()).chain(arguments).collect();
        (path, argv)
    })
}

/// Returns what the kernel would execute for a script with this beginning.
fn interpreter(head: &[u8], path: &CStr, arguments: &[CString]) -> Option<Program> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|&b| b == b'\n')?;
    // A carriage return is an ordinary character here, as in the kernel.
    let blank = |c: &u8| matches!(c, b' ' | b'\t');
    let start = line.iter().position(|c| !blank(c))?;
    let line = line.get(start..end)?;
    let line = line.get(..line.iter().rposition(|c| !blank(c)).map_or(0, |last| last.saturating_add(1)))?;
    let (program, argument) = match line.iter().position(|b| matches!(b, b' ' | b'\t')) {
        Some(at) => line.split_at(at),
        None => (line, &b""[..]),
    };
    let program = CString::new(program).ok().filter(|program| !program.is_empty())?;
    let argument = CString::new(argument.trim_ascii()).ok()?;
    let mut argv = vec![program.clone()];
    argv.extend((!argument.is_empty()).then_some(argument));
    argv.push(path.to_owned());
    argv.extend_from_slice(arguments);
    Some((program, argv))
}

#[cfg(test)]
mod tests {
    use super::interpreter;
    use std::ffi::CString;

    #[test]
    fn an_interpreter_is_called_as_the_kernel_calls_it() {
        let name = [CString::new("web").unwrap()];
        for (head, expected) in [
            ("#!/bin/sh\nexit", Some("/bin/sh ./run web")),
            ("#! /bin/sh -e \nexit", Some("/bin/sh|-e|./run|web")),
            ("#!/usr/bin/env\tsh -x\n", Some("/usr/bin/env|sh -x|./run|web")),
            ("#!/usr/local/bin/gatevisor service\n", Some("/usr/local/bin/gatevisor|service|./run|web")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r|./run|web")),
            ("#!\n", None),
            ("#! \n", None),
            ("#!/bin/sh", None),
            ("\u{7f}ELF", None),
            ("", None),
        ] {
            let found = interpreter(head.as_bytes(), c"./run", &name);
            let shown = found.map(|(program, argv)| {
                assert_eq!(Some(&program), argv.first());
                argv.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join("|")
            });
            assert_eq!(shown, expected.map(|line| line.replace("/sh ./run web", "/sh|./run|web")), "{head}");
        }
    }
}
