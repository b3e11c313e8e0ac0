//! A model that answers when a test lets it, and turns of agents that ask it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::home::Port;
use crate::support::waiting;

/// The model, which ends with this value.
pub struct Model {
    process: Child,
    directory: tempfile::TempDir,
    pub port: Port,
}

impl Model {
    pub fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), Port::free());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/model.py");
        let number = port.number.to_string();
        let mut command = Command::new("/usr/bin/env");
        command.arg("python3").arg(script).arg(number).arg(directory.path()).stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        waiting::polled("the model", || TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).ok());
        Self { process, directory, port }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets it answer nothing until `release`.
    pub fn hold(&self) {
        fs::write(self.file("hold"), "").unwrap();
    }

    pub fn release(&self) {
        fs::remove_file(self.file("hold")).unwrap();
    }

    /// Returns whether somebody has said this to it.
    pub fn is_asked(&self, words: &str) -> bool {
        let asked = fs::read_to_string(self.file("asked")).unwrap_or_default();
        asked.lines().any(|line| line.contains(words))
    }

    /// Waits until somebody has said this to it.
    pub fn until_asked(&self, words: &str) {
        waiting::polled(&format!("the question `{words}`"), || self.is_asked(words).then_some(()));
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Begins a turn with an agent, which goes by this name in requests; its end is what the gateway
/// answered.
pub fn turn(port: u16, key: String, agent: &'static str, words: String) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let body = format!(
            "{{\"model\": \"{agent}\", \"messages\": [{{\"role\": \"user\", \"content\": \"{words}\"}}]}}"
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut answer = String::new();
        let sent = stream.write_all(format!("{head}{body}").as_bytes());
        let _ = sent.and_then(|()| stream.read_to_string(&mut answer));
        answer
    })
}
