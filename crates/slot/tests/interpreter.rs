//! The interpreters as the kernel and a supervisor start them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Slot, interpreter, stdout};
use gatevisor_slot::{Ready, ServiceFile, Stderr, render_finish, render_service};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

#[test]
fn run_becomes_the_command_with_its_directory_and_environment() {
    let slot = Slot::new(
        r#"
command = ["sh", "-c", "pwd; echo $$A $$B $$PLAIN; echo err >&2; umask; echo $$$$"]
directory = "${TARGET}"
umask = "027"
environment-files = ["${TARGET}/one.env", "${TARGET}/two.env", "${TARGET}/missing.env"]
[environment]
A = "${A}-${FROM_FILE}"
B = "${BOTH:-none}$$"
"#,
    );
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("one.env"), "FROM_FILE=one\nBOTH=file\nSECRET=x\n").unwrap();
    fs::write(target.path().join("two.env"), "export FROM_FILE='two'\n").unwrap();
    let child = slot
        .command()
        .env("TARGET", target.path())
        .env("A", "inherited")
        .env("BOTH", "inherited")
        .env("PLAIN", "kept")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let target = target.path().canonicalize().unwrap();
    // `stderr = "log"` is the default, so both streams arrive in one.
    assert_eq!(
        stdout(&output),
        format!("{}\ninherited-two file$ kept\nerr\n0027\n{pid}\n", target.display())
    );
    assert_eq!(output.stderr, b"");
    assert!(output.status.success());
}

#[test]
fn the_command_gets_the_variables_of_dotenv_files_if_the_slot_says_so() {
    let slot = Slot::new(
        "command = [\"env\"]\nenvironment-files = [\"./e\", \"./f\"]\nenvironment-export = true\n\
         [environment]\nSET = \"slot\"\n",
    );
    fs::write(slot.path().join("e"), "A=e\nB='e with $x'\nSET=e\n").unwrap();
    fs::write(slot.path().join("f"), "A=f\n").unwrap();
    let mut command = slot.command();
    let said = stdout(&command.env("A", "inherited").env("B", "inherited").output().unwrap());
    for (variable, count) in
        [("A=f", 1), ("B=e with $x", 1), ("SET=slot", 1), ("A=inherited", 0), ("SET=e", 0)]
    {
        assert_eq!(said.lines().filter(|line| *line == variable).count(), count, "{variable}: {said}");
    }
}

#[test]
fn nothing_in_a_dotenv_file_is_exported() {
    let slot = Slot::new("command = [\"env\"]\nenvironment-files = [\"./e\"]\n");
    fs::write(slot.path().join("e"), "SECRET_IN_FILE=1\n").unwrap();
    assert!(!stdout(&slot.run()).contains("SECRET_IN_FILE"));
}

#[test]
fn stderr_can_stay_where_the_supervisors_is() {
    let slot = Slot::new("command = [\"sh\", \"-c\", \"echo out; echo err >&2\"]\nstderr = \"inherit\"\n");
    let output = slot.run();
    assert_eq!((stdout(&output).as_str(), output.stderr.as_slice()), ("out\n", &b"err\n"[..]));
}

#[test]
fn the_command_is_looked_up_in_its_own_path() {
    let slot = Slot::new("command = [\"only-here\"]\n[environment]\nPATH = \"${OWN}/bin:${PATH}\"\n");
    // The program is not in /tmp, where root looks for no program.
    let own = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::create_dir(own.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/echo", own.path().join("bin/only-here")).unwrap();
    let output = slot.command().env("OWN", own.path()).output().unwrap();
    assert_eq!(stdout(&output), "\n");
}

#[test]
fn root_looks_for_its_command_only_where_nobody_else_could_have_put_it() {
    if !rustix::process::geteuid().is_root() {
        println!("not shown: only root is careful");
        return;
    }
    let slot = Slot::new("command = [\"sleep\", \"0\"]\n[environment]\nPATH = \"${PWD}/bin::${PATH}\"\n");
    fs::create_dir(slot.path().join("bin")).unwrap();
    fs::set_permissions(slot.path().join("bin"), fs::Permissions::from_mode(0o777)).unwrap();
    let forged = slot.path().join("bin/sleep");
    fs::write(&forged, "#!/bin/sh\necho forged\n").unwrap();
    fs::set_permissions(&forged, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(&forged, slot.path().join("sleep")).unwrap();
    let output = slot.command().env("PWD", slot.path()).output().unwrap();
    let said = stdout(&output);
    assert!(output.status.success() && !said.contains("forged"), "{said}");
    assert!(
        said.contains(&format!("root does not look for programs in `{}/bin`", slot.path().display())),
        "{said}"
    );
    assert!(said.contains("root does not look for programs in ``: it is no absolute path"), "{said}");
}

#[test]
fn a_success_forgets_the_last_failure() {
    let slot = Slot::new("command = [\"true\"]\n");
    fs::create_dir(slot.path().join("data")).unwrap();
    fs::write(slot.path().join("data/start-error"), "old\n").unwrap();
    assert!(slot.run().status.success());
    assert_eq!(slot.start_error(), None);
}

#[test]
fn a_failure_names_its_stage_and_errno() {
    Slot::new("command = []\n").check_failure(100, "reading ./run: `command`: must name a program");
    Slot::new("comand = []\n").check_failure(100, "reading ./run: line 2: unknown field `comand`");
    Slot::new("command = [\"echo\", \"${NOT_SET_ANYWHERE}\"]\n")
        .check_failure(111, "expanding command: the variable NOT_SET_ANYWHERE is not set; set it, or write");
    Slot::new("command = [\"a\\u0000b\"]\n")
        .check_failure(100, "expanding command: the text holds a NUL byte");
    Slot::new("command = [\"true\"]\ndirectory = \"/nowhere\"\n")
        .check_failure(111, "changing directory: `/nowhere`: No such file or directory (errno 2)\n");
    Slot::new("command = [\"no-such-program\"]\n[environment]\nPATH = \"/usr/bin:/bin\"\n").check_failure(
        127,
        "executing: `no-such-program`: No such file or directory; it is in no directory of PATH=/usr/bin:/bin (errno 2)\n",
    );
    Slot::new("command = [\"${NO_BIN:-no-such-program}\"]\n").check_failure(
        127,
        "executing: `no-such-program`: No such file or directory; NO_BIN names another: set it where the supervisor is started, as with `gatevisor up`; it is in no directory of PATH=",
    );
    Slot::new("command = [\"/nowhere/at/all\"]\n")
        .check_failure(127, "executing: `/nowhere/at/all`: No such file or directory; is the path right");
    Slot::new("command = [\"./run\"]\nstderr = \"inherit\"\n").check_failure(
        126,
        "executing: `./run`: Permission denied; is it executable by this user? (errno 13)\n",
    );
    Slot::new("command = [\"true\"]\nuser = \"nobody-has-this-name\"\n")
        .check_failure(111, "setting user: user `nobody-has-this-name` is not in /etc/passwd\n");
}

#[test]
fn a_missing_or_invalid_run_file_is_reported_with_the_stage_of_reading_it() {
    let slot = Slot::new("");
    fs::remove_file(slot.path().join("run")).unwrap();
    slot.check_failure(111, "reading ./run: cannot read the file: No such file or directory (errno 2)\n");
    fs::create_dir(slot.path().join("run")).unwrap();
    slot.check_failure(111, "reading ./run: cannot read the file: Invalid argument (errno 22)\n");
}

#[test]
fn a_start_error_is_never_written_through_a_link() {
    let slot = Slot::new("command = []\n");
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), slot.path().join("data")).unwrap();
    assert_eq!(slot.run().status.code(), Some(100));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn root_drops_to_the_named_user_and_others_cannot() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        Slot::new("command = [\"id\"]\nuser = \"root\"\n")
            .check_failure(111, "setting user: the file wants user `root` and this is uid ");
        return;
    }
    let slot = Slot::new("command = [\"sh\", \"-c\", \"id -u; id -G\"]\nuser = \"nobody\"\n");
    let nobody = gatevisor_sys::user::lookup(b"nobody").unwrap();
    let groups: Vec<String> = nobody.groups.iter().map(ToString::to_string).collect();
    assert_eq!(stdout(&slot.run()), format!("{}\n{}\n", nobody.uid, groups.join(" ")));

    // A file of nobody's, executed by root, has nobody's authority and no more.
    let own = Slot::new("command = [\"id\", \"-u\"]\n");
    std::os::unix::fs::chown(own.path().join("run"), Some(nobody.uid), None).unwrap();
    assert_eq!(stdout(&own.run()), format!("{}\n", nobody.uid));
    let greedy = Slot::new("command = [\"id\", \"-u\"]\nuser = \"root\"\n");
    std::os::unix::fs::chown(greedy.path().join("run"), Some(nobody.uid), None).unwrap();
    greedy.check_failure(111, "setting user: the file belongs to uid ");
}

#[test]
fn the_present_user_may_be_named() {
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let slot = Slot::new(&format!("command = [\"id\", \"-u\"]\nuser = \"{uid}\"\n"));
    assert_eq!(stdout(&slot.run()), format!("{uid}\n"));
}

/// Starts a slot with descriptor 3 on a pipe whose other end is returned, and standard output
/// elsewhere.
fn with_notification(slot: &Slot) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    fs::write(slot.path().join("notification-fd"), "3\n").unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" service ./run gateway-coder 3>&1 1>&2"])
        .arg(interpreter())
        .current_dir(slot.path())
        .env("GATEVISOR_SERVICE", format!("{}/1/gateway-coder", std::process::id()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap());
    (child, told)
}

fn rest_of(told: &mut BufReader<std::process::ChildStdout>) -> String {
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_service_whose_probe_is_switched_off_is_never_ready() {
    let slot = Slot::new(
        "command = [\"sh\", \"-c\", \"echo untrue >&3; exec sleep 1000\"]\n[ready]\nhttp = \"http://localhost:1/\"\n\
         when = \"${NEVER_SET:-no}\"\n",
    );
    let (mut child, mut told) = with_notification(&slot);
    // The descriptor is closed in the command, so the end is seen although the command runs.
    assert_eq!(rest_of(&mut told), "");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_service_without_a_probe_reports_its_readiness_itself() {
    let slot = Slot::new("command = [\"sh\", \"-c\", \"echo mine >&3; exec 3>&-; exec sleep 1000\"]\n");
    let (mut child, mut told) = with_notification(&slot);
    assert_eq!(rest_of(&mut told), "mine\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Answers each connection with the next of its arguments, and with the last one from then on. With
/// `beside`, a process in a session of its own does so while the first process runs.
const SERVER: &str = r#"
import os, select, signal, socket, sys
first, over = os.pipe()[::-1], None
if sys.argv[2] == "beside":
    if os.fork():
        signal.pause()
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(first[0])
    over = first[1]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
answers = sys.argv[3:]
while True:
    if over in select.select([listener] + ([over] if over else []), [], [])[0]:
        break
    peer, _ = listener.accept()
    assert peer.recv(1000).startswith(b"GET /health ")
    peer.sendall(b"HTTP/1.1 " + answers[0].encode() + b"\r\n\r\n")
    peer.close()
    answers = answers[1:] or answers
"#;

/// Returns a port that nobody else takes while the socket lives.
fn reserved() -> (u16, OwnedFd) {
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&held, true).unwrap();
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    (SocketAddrV4::try_from(getsockname(&held).unwrap()).unwrap().port(), held)
}

fn probed(command: &str, port: u16) -> String {
    format!(
        "command = {command}\n[ready]\nhttp = \"http://127.0.0.1:${{NO_PORT:-{port}}}/health\"\ninterval-ms = 5\n"
    )
}

#[test]
fn a_service_with_a_probe_is_ready_when_its_url_answers() {
    let server = tempfile::NamedTempFile::new().unwrap();
    fs::write(server.path(), SERVER).unwrap();
    let server = server.path().display();
    for place in ["here", "beside"] {
        let (port, _held) = reserved();
        let command =
            format!("[\"python3\", \"{server}\", \"{port}\", \"{place}\", \"503 Starting\", \"200 OK\"]");
        let slot = Slot::new(&probed(&command, port));
        let (mut child, mut told) = with_notification(&slot);
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "{place}");
        // The prober is gone once it has told, and the command never had the descriptor.
        assert_eq!(rest_of(&mut told), "");
        assert!(!slot.path().join("data/not-ready").exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn an_answer_of_a_process_that_is_not_the_services_makes_nothing_ready_and_is_said() {
    let (port, _held) = reserved();
    let older = Command::new("python3").args(["-c", SERVER, &port.to_string(), "here", "200 OK"]).spawn();
    let mut older = older.unwrap();
    let slot = Slot::new(&probed("[\"sleep\", \"1000\"]", port));
    let (mut child, mut told) = with_notification(&slot);
    let note = slot.path().join("data/not-ready");
    let pid = older.id();
    let expected = format!("port {port} is held by process {pid} (python3), and not by this service\n");
    let deadline = Instant::now() + Duration::from_mins(1);
    while fs::read_to_string(&note).ok().as_deref() != Some(&expected) {
        assert!(Instant::now() < deadline, "{:?}", fs::read_to_string(&note));
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rest_of(&mut told), "", "it was never ready");
    older.kill().unwrap();
    older.wait().unwrap();
    // The next start knows nothing of it.
    fs::write(slot.path().join("run"), "#!/x service\ncommand = [\"true\"]\n").unwrap();
    slot.run();
    assert!(!note.exists());
}

#[test]
fn the_prober_ends_with_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let slot = Slot::new(&format!(
        "command = [\"sleep\", \"1000\"]\n[ready]\nhttp = \"http://127.0.0.1:{port}/\"\ninterval-ms = 100000\n"
    ));
    let (mut child, mut told) = with_notification(&slot);
    // Connected, so it is waiting for an answer that never comes.
    let _connection = listener.accept().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rest_of(&mut told), "");
}

#[test]
fn a_url_of_another_machine_is_refused_at_the_start() {
    let slot = Slot::new("command = [\"true\"]\n[ready]\nhttp = \"http://example.org/\"\n");
    let (mut child, mut told) = with_notification(&slot);
    assert_eq!(child.wait().unwrap().code(), Some(111));
    assert_eq!(rest_of(&mut told), "");
    let line = slot.start_error().unwrap();
    assert!(line.starts_with("expanding ready.http: `http://example.org/` is not on this machine"), "{line}");
}

#[test]
fn a_notification_fd_that_nobody_opened_is_no_failure() {
    let slot = Slot::new("command = [\"echo\", \"ran\"]\n[ready]\nhttp = \"http://localhost:1/\"\n");
    for number in ["3\n", "1\n", "99999\n", "x\n", ""] {
        fs::write(slot.path().join("notification-fd"), number).unwrap();
        assert_eq!(stdout(&slot.run()), "ran\n", "{number:?}");
    }
}

#[test]
fn the_kernel_executes_what_is_rendered() {
    let dir = tempfile::tempdir().unwrap();
    let file = ServiceFile {
        stderr: Stderr::Inherit,
        ready: Some(Ready::new("http://localhost:1/")),
        ..ServiceFile::new(vec!["echo".into(), "as written".into()])
    };
    let write = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("run", &render_service(&interpreter(), &file, "by a test").unwrap());
    write("finish", &render_finish(&interpreter(), "").unwrap());
    let execute = |name: &str, args: &[&str]| loop {
        match Command::new(format!("./{name}")).args(args).current_dir(dir.path()).output() {
            // Another test was forking while we wrote: its child held the file open for a moment.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => return other.unwrap(),
        }
    };
    assert_eq!(stdout(&execute("run", &["gateway-coder"])), "as written\n");
    assert_eq!(execute("finish", &["78", "0", "gateway-coder", "1"]).status.code(), Some(125));
    assert_eq!(execute("finish", &["1", "0", "gateway-coder", "1"]).status.code(), Some(0));
    assert_eq!(execute("finish", &["256", "9", "gateway-coder", "1"]).status.code(), Some(0));
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/fail-codes"), "1 2\n").unwrap();
    assert_eq!(execute("finish", &["2", "0", "gateway-coder", "1"]).status.code(), Some(125));
    assert_eq!(execute("finish", &["78", "0", "gateway-coder", "1"]).status.code(), Some(0));
}

#[test]
fn a_call_without_a_file_says_how_to_call() {
    for applet in ["service", "finish"] {
        let output = Command::new(interpreter()).arg(applet).output().unwrap();
        assert_eq!(output.status.code(), Some(100));
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: gatevisor"));
    }
}
