//! A system that refuses some system calls, as emulators, sandboxes and old kernels do.

use crate::support::World;

/// Denies system calls to itself, and then becomes a program. `memfd` denies those for files in
/// memory, `threads` those for threads, without which a log daemon cannot begin. `emulated` denies
/// what QEMU 7.2 denies: orphans of others, and processes that share memory or descriptors and are
/// no threads.
const REFUSES: &str = r#"
import ctypes, os, platform, struct, sys
arm = platform.machine() == "aarch64"
memfd, prctl, clone, clone3 = (279, 167, 220, 435) if arm else (319, 157, 56, 435)
LD, JEQ, JSET, RET = 0x20, 0x15, 0x45, 0x06
ALLOW, EPERM, EINVAL, ENOSYS = [(RET, 0, 0, how) for how in (0x7fff0000, 0x50001, 0x50016, 0x50026)]
number, flags = (LD, 0, 0, 0), (LD, 0, 0, 16)
filters = {
    "memfd": [number, (JEQ, 0, 1, memfd), EPERM, ALLOW],
    "emulated": [
        number, (JEQ, 0, 1, clone3), ENOSYS, (JEQ, 0, 3, prctl), flags, (JEQ, 0, 6, 36), EINVAL,
        (JEQ, 0, 4, clone), flags, (JSET, 2, 0, 0x14000), (JSET, 0, 1, 0x500), EINVAL, ALLOW,
    ],
    "threads": [number, (JEQ, 0, 1, clone3), ENOSYS, (JEQ, 0, 3, clone), flags, (JSET, 0, 1, 0x10000), EPERM, ALLOW],
}
code = b"".join(struct.pack("=HBBI", *step) for step in filters[sys.argv[1]])
buffer = ctypes.create_string_buffer(code)
program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Returns a world whose supervisor, and all that it starts, is refused this.
pub(crate) fn world_that_refuses(what: &str) -> World {
    let gatevisor = env!("CARGO_BIN_EXE_gatevisor");
    let mut world = World::new().supervised_by(&["python3", "-c", REFUSES, what, gatevisor, "supervise"]);
    world.start();
    world
}

#[test]
fn where_nothing_is_shared_and_no_orphan_is_given_services_run_are_logged_and_stop() {
    let mut world = world_that_refuses("emulated");
    let log = format!("#!{} log\ndirectory = \"lines\"\n", env!("CARGO_BIN_EXE_gatevisor"));
    let mut service = world
        .service("web")
        .run("echo works; exec sleep 3600")
        .prepare(|dir| std::fs::create_dir_all(dir.join("log/lines")).unwrap())
        .executable("log/run", &log)
        .place();
    service.receive("su");
    service.until_file("log/lines/current", "the line", |text| text.contains("works"));
    service.send("r");
    service.receive("dDu");
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
    let said = world.said();
    assert_eq!(said.matches("does not give us the orphans of services").count(), 1, "{said}");
    assert!(said.ends_with("everything that is known here has stopped\n"), "{said}");
}
