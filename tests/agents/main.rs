//! The agents of today, tried with the real programs: the same cases for each.
//!
//! `OpenClaw` is in `OPENCLAW_BIN`, or else the one that `scripts/openclaw.sh` installs and keeps.
//! It takes 700 MB and up to a minute to start on a busy machine. Hermes is in `HERMES_BIN` and
//! `HERMES_022_BIN`, or else what `scripts/hermes-venv.sh` keeps. The bot is in `examples/`.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/model.rs"]
mod model;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod trial;
#[path = "../support/tried.rs"]
mod tried;
mod turns;
mod upgrade;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use home::{Home, Port};
use support::processes::{self, Held};
use trial::Trial;

/// The time that a start or an answer of an agent may take on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_mins(3);
/// How soon silence is noticed, so that nobody waits for that.
const SOON: &str = "GATEVISOR_LIVE_INTERVAL_MS=1000\nGATEVISOR_LIVE_MISSES=3\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns what a script of the repository prints, which installs something once.
fn installed(script: &str, arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(repository().join("scripts").join(script));
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script} has installed nothing: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|program| !program.is_empty()).map(PathBuf::from)
}

/// Adds lines to a profile's own variables.
fn say(home: &Home, profile: &str, lines: &str) {
    let file = home.profile_dir(profile).join(".env");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(file, format!("{before}{lines}")).unwrap();
}

/// Returns the directory with the programs of `OpenClaw` and its Node.
fn openclaw() -> PathBuf {
    named_by("OPENCLAW_BIN")
        .map_or_else(|| installed("openclaw.sh", &[]), |program| program.parent().unwrap().to_owned())
}

fn with_openclaw() -> Home {
    let mut home = Home::built_in();
    home.tell_agent(Some("openclaw".into()));
    use_openclaw(&mut home, &openclaw());
    home
}

/// Has the next commands find the programs of this directory.
fn use_openclaw(home: &mut Home, programs: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path)));
    home.set("PATH", path.unwrap());
    home.set("OPENCLAW_BIN", programs.join("openclaw"));
}

/// Runs `openclaw gateway restart` for a profile, as somebody does who does not know Gatevisor. It
/// waits until the gateway works again, which the test does itself: this waits until the gateway's
/// log has what Gatevisor says of it.
fn openclaw_restart(home: &Home, profile: &str, said: &str) {
    let programs = openclaw();
    let directory = home.profile_dir(profile);
    let mut command = Command::new(programs.join("openclaw"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)));
    command
        .args(["gateway", "restart"])
        .env("PATH", path.unwrap())
        .env("OPENCLAW_SUPERVISOR_MODE", "external");
    command
        .env("OPENCLAW_STATE_DIR", &directory)
        .env("OPENCLAW_CONFIG_PATH", directory.join("openclaw.json"));
    for line in fs::read_to_string(directory.join(".env")).unwrap().lines() {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.starts_with("OPENCLAW_")) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    home.until_logged(profile, said);
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn real_openclaw_is_supervised_from_its_start_to_a_killed_supervisor() {
    let mut home = with_openclaw();
    let names = ["coder", "writer"];
    for name in names {
        home.run(["profile", "create", name]).ok();
    }
    // Each has a port and a secret of its own, in a file of its own.
    let environments = names.map(|name| fs::read_to_string(home.profile_dir(name).join(".env")).unwrap());
    let lines: BTreeSet<&str> = environments.iter().flat_map(|text| text.lines()).collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("OPENCLAW_GATEWAY_")).count(), 4, "{lines:?}");
    say(&home, "coder", SOON);
    home.up_quietly();
    // The home knows its agent.
    home.tell_agent(None);
    let port = environments[0].lines().find_map(|line| line.strip_prefix("OPENCLAW_GATEWAY_PORT=")).unwrap();
    let mut trial = Trial::new(home, "coder", port.parse().ok(), "OpenClaw 2026.9.6");
    let writer = trial.home.start(["gateway", "start", "writer", "--ready", "--timeout", "150"]);
    trial.starts();
    writer.ended(WAIT_LIMIT).ok();
    let secret =
        environments[0].lines().find_map(|line| line.strip_prefix("OPENCLAW_GATEWAY_TOKEN=")).unwrap();
    let line = fs::read(format!("/proc/{}/cmdline", trial.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains(secret), "a secret is on a command line");

    // One that ends by itself and leaves no handoff has ended on purpose.
    let pid = trial.home.pid("writer");
    let held = Held::of(pid).unwrap();
    processes::signal(pid, Signal::TERM);
    held.until_gone("the gateway that was told to end");
    trial.home.until_logged("writer", "it ended on purpose (`/status` is `none` in {");
    trial.home.until_report("writer", "an end on purpose", |report| report["state"] == "down");
    trial.run("gateway stop writer").ok();

    trial.freezes();
    trial.crashes();
    trial.restarts_itself("and a handoff", |home, _| {
        openclaw_restart(home, "coder", "it wants to be started again (`/status` is `accepted`)");
    });
    trial.drains(|trial| {
        let is_suspended = trial.answer("/readyz").contains("gateway-draining");
        is_suspended.then_some("a suspension, which is renewed")
    });
    trial.stops();
    trial.loses_its_supervisor();
    trial.is_seen_elsewhere("upgrade");
    assert_eq!(trial.home.report("writer")["state"], "down");
    trial.ends();
}

#[test]
fn the_asyncio_bot_is_supervised_from_its_start_to_an_edited_definition() {
    let mut home = Home::new();
    let definition = home.beside("bot.toml");
    let text = fs::read_to_string(repository().join("examples/asyncio-bot.toml")).unwrap();
    fs::write(&definition, &text).unwrap();
    home.tell_agent(Some(definition.clone()));
    home.set("ASYNCIO_BOT_PROGRAM", repository().join("examples/asyncio-bot.py"));
    for name in ["coder", "writer"] {
        home.run(["profile", "create", name]).ok();
    }
    say(&home, "coder", SOON);
    home.up_quietly();
    let mut trial = Trial::new(home, "coder", None, "asyncio bot");
    try_until_upgrade(&mut trial, "drain");
    let old = trial.pid();
    fs::write(&definition, text.replace("stop-timeout-ms = 30000", "stop-timeout-ms = 29000")).unwrap();
    trial.run("reload --restart").ok();
    trial.again(old);
    trial.is("upgrade", "edited definition: `reload --restart`");
    trial.ends();
}

/// Returns a home in which the gateway of a profile answers over HTTP, and its port.
fn with_hermes(program: PathBuf, profile: &str) -> (Home, Port) {
    let mut home = Home::built_in();
    home.set("HERMES_BIN", program);
    // Otherwise Hermes would download a helper program, which nothing here needs.
    home.set("TIRITH_ENABLED", "false");
    home.run(["profile", "create", "coder"]).ok();
    let port = Port::free();
    let server = "API_SERVER_ENABLED=true\nAPI_SERVER_HOST=127.0.0.1\nAPI_SERVER_KEY=0123456789abcdef0123456789abcdef\n";
    say(&home, profile, &format!("{server}API_SERVER_PORT={}\n{SOON}", port.number));
    home.up_quietly();
    (home, port)
}

/// Tries an agent that restarts itself at SIGUSR1 and drains as long as there is this file, up to
/// its upgrade.
fn try_until_upgrade(trial: &mut Trial, marker: &str) {
    trial.starts();
    trial.freezes();
    trial.crashes();
    trial.restarts_itself("on SIGUSR1", |_, pid| processes::signal(pid, Signal::USR1));
    trial.drains(|trial| {
        let is_there = trial.home.profile_dir(trial.profile).join(marker).exists();
        is_there.then_some("a file asks it to")
    });
    trial.stops();
    trial.loses_its_supervisor();
}

/// Tries Hermes as far as its versions do not differ.
fn try_hermes(mut trial: Trial) {
    try_until_upgrade(&mut trial, ".drain_request.json");
    // `tests/hermes` takes one home there and back.
    trial.is_seen_elsewhere("upgrade");
    trial.ends();
}

#[test]
fn real_hermes_019_is_supervised_from_its_start_to_a_killed_supervisor() {
    let program =
        named_by("HERMES_BIN").unwrap_or_else(|| installed("hermes-venv.sh", &["0.19"]).join("bin/hermes"));
    let (home, port) = with_hermes(program, "coder");
    try_hermes(Trial::new(home, "coder", Some(port.number), "Hermes 0.19"));
}

#[test]
fn real_hermes_022_is_supervised_from_its_start_to_a_killed_supervisor() {
    let kept = || installed("hermes-venv.sh", &["0.22"]).join("bin/hermes");
    let (home, port) = with_hermes(named_by("HERMES_022_BIN").unwrap_or_else(kept), "default");
    try_hermes(Trial::new(home, "default", Some(port.number), "Hermes 0.22"));
}
