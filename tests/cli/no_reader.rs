//! Commands whose output nobody reads, or that have no output: they do their work all the same.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::home::{Home, Ran};
use crate::support::processes;

/// Returns the end of a pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Starts `gatevisor up` by a shell, which gives it these descriptors, and returns when its gateway
/// is up.
fn up(home: &Home, redirections: &str) -> Child {
    let command = home.command(["up"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirections}")).arg("sh").args(words);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let child =
        shell.stdin(Stdio::null()).stdout(unread()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    home.until_state("coder", "up");
    child
}

#[test]
fn up_supervises_whether_its_output_is_read_or_not_and_where_it_has_none() {
    for redirections in ["", ">/dev/full 2>&1", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let home = Home::with_script("exec sleep 1000", &[]);
        home.profile("coder");
        home.want_running("coder");
        let mut supervisor = up(&home, redirections);
        let table = home.says("status coder").ok();
        assert!(table.contains(" up "), "{redirections}: {table}");
        processes::signal(i32::try_from(supervisor.id()).unwrap(), Signal::INT);
        assert!(supervisor.wait().unwrap().success(), "{redirections}");
    }
}

fn with_no_reader(home: &Home, line: &str) -> Ran {
    let mut command = home.command(line.split(' '));
    let output = command.stdout(unread()).stderr(Stdio::piped()).output().unwrap();
    Ran { code: output.status.code(), out: String::new(), err: String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn a_command_for_several_does_all_of_it_and_answers_truly_although_nobody_reads_the_results() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    for name in ["coder", "writer"] {
        home.profile(name);
    }
    home.up();
    let ran = with_no_reader(&home, "gateway unregister --all");
    assert_eq!((ran.code, &*ran.err), (Some(0), "gatevisor: 3 gateways: all done\n"), "{ran:?}");
    for name in ["coder", "writer", "default"] {
        assert!(!home.slot(name).path().exists(), "{name} has its slot still");
    }
    let ran = with_no_reader(&home, "gateway register --all");
    assert_eq!((ran.code, &*ran.err), (Some(0), "gatevisor: 3 gateways: all done\n"), "{ran:?}");
    for name in ["coder", "writer", "default"] {
        assert!(home.slot(name).path().exists(), "{name} has no slot");
    }
    // A failure gives its exit code even if nobody reads the output before it.
    let ran = with_no_reader(&home, "gateway stop ghost");
    assert_eq!(ran.code, Some(1), "{ran:?}");
}
