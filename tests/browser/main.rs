//! The page of `gatevisor web` in a real browser, which is headless Chromium.
//!
//! Each test has a home, a server and a browser of its own, and does what a person does: it clicks,
//! types, and looks. `webdriver` drives the browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic in a test says what is wrong"
)]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/real_hermes.rs"]
mod real_hermes;
#[path = "../support/mod.rs"]
mod support;

mod accessible;
mod drain;
mod hermes;
mod past;
mod pictures;
mod security;
mod use_of_the_page;
mod webdriver;

use std::time::Duration;

use rustix::process::Signal;

use home::{Home, Port};
use support::WAIT_LIMIT;
use support::running::Running;
use webdriver::Browser;

/// The size of a laptop's window.
const WIDE: (u32, u32) = (1280, 900);
/// The size of a phone.
const PHONE: (u32, u32) = (390, 844);
/// The agent's liveness in these tests.
const LIVE: &str = "[gateway.live]\npolicy = \"POLICY\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
     http = { url = \"http://127.0.0.1:${PORT:-8700}/health\" }\n\n[gateway.exit-meanings]";

/// A home with two gateways that are ready, and its server.
struct Place {
    // It ends first.
    server: Running,
    home: Home,
    /// Such as `http://127.0.0.1:40123`.
    address: String,
    ports: Vec<Port>,
}

impl Place {
    /// Returns one where a gateway that does not respond is only told.
    fn new() -> Self {
        Self::with_policy("warn")
    }

    /// Returns one with a day behind it.
    fn with_past() -> Self {
        Self::prepared("warn", |home| past::write(home, &["coder", "writer", "researcher"]))
    }

    /// Returns one where this is done with a gateway that does not respond.
    fn with_policy(policy: &str) -> Self {
        Self::prepared(policy, |_| ())
    }

    fn prepared(policy: &str, prepare: impl FnOnce(&Home)) -> Self {
        Self::of_agent(&[("[gateway.exit-meanings]", &LIVE.replace("POLICY", policy))], prepare)
    }

    /// Returns one with this change to the agent.
    fn of_agent(changes: &[(&str, &str)], prepare: impl FnOnce(&Home)) -> Self {
        // A browser needs its time on a busy machine.
        support::set_wait_limit(Duration::from_mins(1));
        let mut home = Home::with_agent(changes);
        let ports = ["coder", "writer"].map(|name| home.profile(name));
        for name in ["coder", "writer"] {
            home.want_running(name);
        }
        home.up();
        prepare(&home);
        let (server, address) = serve(&home, "127.0.0.1:0");
        Self { server, home, address, ports: ports.into() }
    }

    /// Returns a link that works once.
    fn link(&self) -> String {
        self.home.says("web --link").ok().trim_end().to_owned()
    }

    /// Opens a browser that has logged in.
    fn open(&self, size: (u32, u32), options: &[&str]) -> Browser {
        let browser = Browser::open(size, options);
        browser.go(&self.link());
        browser.until_text("a.row", "coder");
        browser
    }

    /// Ends the server, and returns where it was.
    fn end_server(self) -> (Home, String, Vec<Port>) {
        self.server.signal(Signal::TERM);
        self.server.ended(WAIT_LIMIT);
        (self.home, self.address, self.ports)
    }
}

fn serve(home: &Home, at: &str) -> (Running, String) {
    let server = home.start(["web", "--listen", at]);
    let said = server.until_warns("/\n");
    let address = said.split_once("http://").unwrap().1.split_once('/').unwrap().0;
    let address = format!("http://{address}");
    (server, address)
}
