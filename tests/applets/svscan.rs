//! `s6-svscan`: our supervisor under s6's name and with s6's restart delay.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Stdio;

use tempfile::tempdir;

use crate::both::{Supervisor, our_code, our_command, theirs, words};
use crate::support::{World, processes, soon};

#[test]
fn s6_svscan_announces_its_readiness_and_ends_as_told() {
    let world = World::new();
    let mut service = world.service("web").stays().place();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // A shell gives the pipe its number, as the boot of a container does.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" s6 s6-svscan -d4 -c 500 -t 0 -- \"$1\" 4>&1 >/dev/null"]);
    command.arg(env!("CARGO_BIN_EXE_gatevisor")).arg(world.scandir());
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    // The end of file shows that the descriptor is neither kept nor handed on to services.
    reader.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"\n");
    service.receive("su");
    assert_eq!(our_code("s6-svscanctl", &words("-t", &world.scandir())), 0);
    service.receive("dDx");
    let held = processes::Held::of(i32::try_from(child.id()).unwrap());
    assert!(held.is_none_or(|held| held.gone_by(soon())));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_command_lines_and_scandirs_are_refused() {
    let root = tempdir().unwrap();
    // Always with a directory, because the default is the current one.
    for (options, code) in [("-z", 100), ("-d 2", 100), ("-c x", 100), ("-d 77", 100)] {
        assert_eq!(our_code("s6-svscan", &words(options, root.path())), code, "{options}");
    }
    assert_eq!(our_code("s6-svscan", &words("--", &root.path().join("none"))), 111);
    let world = World::new();
    let _supervisor = Supervisor::ours(&world);
    assert_eq!(our_code("s6-svscan", &words("--", &world.scandir())), 100, "one scandir, one supervisor");
    assert_eq!(theirs("s6-svscan", &words("--", &world.scandir())).code, Some(100));
}

#[test]
fn a_standard_input_that_is_closed_is_no_obstacle() {
    let root = tempdir().unwrap();
    let file = File::create(root.path().join("out")).unwrap();
    assert!(file.as_raw_fd() >= 0);
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "exec <&- >&- 2>&-; \"$0\" s6 s6-svok \"$1\"; exit $?"]);
    shell.arg(env!("CARGO_BIN_EXE_gatevisor")).arg(root.path());
    assert_eq!(shell.status().unwrap().code(), Some(1));
    drop(our_command("s6-svok"));
}
