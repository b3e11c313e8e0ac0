//! The example of `examples/`: its program and its definition agree.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::home::Port;
use crate::support::{processes, waiting};

#[test]
fn the_example_listens_where_its_probe_asks_and_doctor_looks_if_no_port_is_set() {
    let example = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        fs::read_to_string(path).unwrap()
    };
    let program = example("http-agent.py");
    let port = program.split_once("DEFAULT_PORT = \"").unwrap().1.split_once('"').unwrap().0;
    let definition = example("http-agent.toml");
    for place in [format!("${{PORT:-{port}}}/health"), format!("variable = \"PORT\", default = {port} }}")] {
        assert!(definition.contains(&place), "the definition has no `{place}`");
    }
    // The program prints its default port when it cannot get it.
    let home = tempfile::tempdir().unwrap();
    let run = |settings: &str| {
        fs::write(home.path().join(".env"), settings).unwrap();
        let mut command = Command::new("python3");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/http-agent.py");
        let output = command.arg(path).arg("coder").arg(home.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run("PORT=65536\n");
    assert_eq!((code, said.contains("no valid PORT")), (Some(78), true), "{said}");
    let port = Port::free();
    let listener = TcpListener::bind(("127.0.0.1", port.number));
    if listener.is_ok() {
        let (code, said) = run(&format!("PORT={}\n", port.number));
        assert_eq!((code, said.contains("cannot listen on port")), (Some(1), true), "{said}");
    }
}

#[test]
fn the_example_bot_ends_when_it_is_told_to_although_nobody_reads_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("bot.conf"), "SECONDS=0\n").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/asyncio-bot.py");
    let mut command = Command::new("python3");
    command.arg(path).arg("coder").arg(home.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut bot = command.env_remove("NOTIFY_SOCKET").spawn().unwrap();
    drop(bot.stdout.take());
    waiting::polled("that it listens", || home.path().join("chat").exists().then_some(()));
    processes::signal(bot.id().cast_signed(), Signal::TERM);
    let ended = waiting::polled("that it ends", || bot.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}
