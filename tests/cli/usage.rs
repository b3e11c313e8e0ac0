//! Help, completions, and invalid command lines.

use std::io::Write;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::home::Home;

const VERBS: [&str; 39] = [
    "",
    "up",
    "reload",
    "reconcile",
    "agents",
    "agents list",
    "agents check",
    "agents show",
    "agents schema",
    "profile",
    "profile create",
    "profile delete",
    "profile list",
    "profile show",
    "gateway",
    "gateway start",
    "gateway stop",
    "gateway restart",
    "gateway drain",
    "gateway status",
    "gateway register",
    "gateway unregister",
    "start",
    "stop",
    "restart",
    "down",
    "status",
    "ps",
    "ls",
    "doctor",
    "logs",
    "tree",
    "incidents",
    "events",
    "wait",
    "health",
    "completions",
    "man",
    "status --json",
];

#[test]
fn every_verb_explains_itself() {
    let home = Home::missing();
    for verb in VERBS {
        let ran = home.says(&format!("{verb} --help"));
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{verb}");
        assert!(ran.out.contains("Usage: gatevisor"), "{verb}: {}", ran.out);
        for line in ran.out.lines().filter(|line| line.starts_with("      ") || line.starts_with("  -")) {
            assert!(!line.ends_with('.'), "a help line ends with a full stop: {line}");
        }
    }
    let version = home.says("--version").ok();
    assert!(version.starts_with("gatevisor 0."), "{version}");
    assert!(!home.path().exists(), "asking for help made a home");
}

#[test]
fn verbs_that_only_programs_call_explain_themselves_too_and_do_nothing() {
    let here = tempfile::tempdir().unwrap();
    for verb in [
        "supervise",
        "init",
        "enter",
        "container-command",
        "service",
        "finish",
        "log",
        "logd",
        "in-group",
        "end-group",
        "ask-handoff",
        "end-survivors",
        "takeover",
        "profile-watcher",
        "beside",
        "idle",
    ] {
        for flag in ["--help", "-h"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
            let ran = command.args([verb, flag]).current_dir(&here).output().unwrap();
            assert!(ran.status.success() && ran.stderr.is_empty(), "{verb}: {ran:?}");
            let said = String::from_utf8(ran.stdout).unwrap();
            assert!(said.contains(&format!("Usage: gatevisor {verb}")), "{verb}: {said}");
            let wide = said.lines().find(|line| line.chars().count() > 100);
            assert_eq!(wide, None, "{verb}");
        }
    }
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 0);
}

#[test]
fn a_command_line_that_means_nothing_exits_100_and_does_nothing() {
    let home = Home::missing();
    for line in [
        "",
        "fly",
        "profile",
        "profile create",
        "profile create a b",
        "gateway",
        "gateway fly",
        "gateway start --all coder",
        "gateway start --ready --no-wait",
        "gateway start --timeout soon",
        "gateway start --timeout -1",
        "wait coder --up --down",
        "logs -n",
        "completions klingon",
        "up --grace never",
        "--no-such-option status",
    ] {
        let ran = home.says(line);
        assert_eq!((ran.code, &*ran.out), (Some(100), ""), "{line}: {ran:?}");
        assert!(!ran.err.is_empty(), "{line}");
    }
    assert!(!home.path().exists(), "a wrong command line made a home");
}

#[test]
fn an_agent_definition_that_cannot_be_used_is_refused() {
    let home = Home::missing();
    let definition = |text: &[u8]| std::fs::write(home.beside("agent.toml"), text).unwrap();
    let run = |agent: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.arg("--home").arg(home.path()).arg("--agent").arg(home.beside(agent)).arg("up");
        let ran = home.spawn(command).ended(crate::support::WAIT_LIMIT).refused(100);
        home.redact(&ran)
    };
    let mut said = vec![run("missing.toml"), run(".")];
    for text in [&b"name = "[..], b"\xff", b"name = \"x\"\ncolour = \"blue\"\n"] {
        definition(text);
        said.push(run("agent.toml"));
    }
    assert_snapshot!(said.join("\n"), @"
    gatevisor: error: there is no agent definition `TMP/missing.toml`; check --agent, or the variable GATEVISOR_AGENT
    gatevisor: error: cannot read the agent definition `TMP/.`: it is a directory, not a file
    gatevisor: error: the agent definition `TMP/agent.toml` is not valid: line 1, column 8: string values must be quoted, expected literal string
    gatevisor: error: the agent definition `TMP/agent.toml` is not UTF-8
    gatevisor: error: the agent definition `TMP/agent.toml` is not valid: line 1, column 1: `profile` is missing; and 2 more: gatevisor agents check 'TMP/agent.toml'
    ");
    assert!(!home.path().exists());
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let home = Home::missing();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.says(&format!("completions {shell}")).ok();
        assert!(script.contains("GATEVISOR_COMPLETE"), "{shell}: {script}");
        // If the shell is not installed, its completions cannot be checked.
        let option = if shell == "fish" { "--no-execute" } else { "-n" };
        if !["bash", "zsh", "fish"].contains(&shell) {
            continue;
        }
        let Ok(mut parser) =
            Command::new(shell).arg(option).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
        else {
            assert_ne!(shell, "bash", "bash is on every machine that this is tested on");
            continue;
        };
        parser.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = parser.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    }
    assert!(!home.path().exists());
}

#[test]
fn each_verb_has_a_manual_page() {
    let home = Home::new();
    let ran = home.run([std::ffi::OsStr::new("man"), home.path().as_os_str()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for page in ["gatevisor", "gatevisor-status", "gatevisor-gateway-start", "gatevisor-profile-create"] {
        let text = std::fs::read_to_string(home.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{page}: {text}");
    }
    // What only programs call has none.
    assert!(!home.path().join("gatevisor-as-owner.1").exists());
    assert!(home.says("man /nonexistent/man1").refused(111).contains("cannot write manual pages into"));
}

#[test]
fn the_home_is_the_agents_variable_where_no_option_names_it() {
    let home = Home::new();
    home.profile("coder");
    let list = |variable: &str, value: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.env_remove("HERMES_HOME").env_remove("GATEVISOR_HOME").env(variable, value);
        command.args([
            "--agent",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/http-agent.toml"),
            "profile",
            "list",
        ]);
        home.spawn(command).ended(crate::support::WAIT_LIMIT)
    };
    assert_eq!(list("HTTP_AGENT_HOME", home.path()).ok(), "coder\n");
    assert_eq!(
        list("HTTP_AGENT_HOME", &home.profile_dir("coder")).ok(),
        "coder\n",
        "a profile's home is in its home"
    );
    assert_eq!(list("HERMES_HOME", home.path()).ok(), "", "that is another agent's variable");
}
