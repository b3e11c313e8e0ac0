//! Which gateway serves which profile, where files and gateways say what is not so. A script takes
//! the place of Hermes 0.22, which `tests/hermes` tests.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatevisor_client::Condition;
use gatevisor_wire::control::Control;
use rustix::process::Signal;
use serde_json::Value;

use crate::doctor::fixes;
use crate::home::Home;
use crate::listening::until_subscribed;
use crate::support::{set_wait_limit, waiting};

/// Returns a home with coder and writer, who shall run, and with this script as the program, which
/// is Hermes 0.22 by what is beside it.
fn home(script: &str) -> Home {
    let mut home = Home::built_in();
    let program = home.beside("venv/bin/hermes");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir_all(home.beside("venv/lib/python3.11/site-packages/hermes_agent-0.22.2.dist-info"))
        .unwrap();
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    home.set("HERMES_BIN", &program);
    for name in ["coder", "writer"] {
        home.run(["profile", "create", name]).ok();
        home.want_running(name);
    }
    home
}

/// What a configuration file may be that nobody can understand.
fn spoil(config: &Path, how: usize) -> bool {
    let _ = fs::remove_file(config);
    let _ = fs::remove_dir(config);
    let text = |text: &str| fs::write(config, text).unwrap();
    match how {
        0 => text("- a\n- list\n"),
        1 => text("gateway: {standalone: true\n"),
        2 => text(&"a: b\n".repeat(2 << 20)),
        3 => {
            let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
            let level = |level: usize| {
                let before = format!("*a{}", level - 1);
                format!("a{level}: &a{level} [{}]\n", [&*before; 10].join(", "))
            };
            text(&std::iter::once(first).chain((1..30).map(level)).collect::<String>());
        }
        4 => {
            rustix::fs::mknodat(rustix::fs::CWD, config, rustix::fs::FileType::Fifo, 0o600.into(), 0)
                .unwrap();
        }
        5 => fs::create_dir(config).unwrap(),
        6 => std::os::unix::fs::symlink("/dev/zero", config).unwrap(),
        _ => return false,
    }
    true
}

#[test]
fn a_configuration_that_nobody_understands_changes_nothing_and_is_named() {
    let home = home("exit 1");
    let config = home.profile_dir("writer").join("config.yaml");
    fs::write(&config, "gateway: {standalone: true}\n").unwrap();
    let own = "profile=writer prior_state=running action=started";
    let served =
        "profile=coder prior_state=running action=registered reason=the gateway of default serves it";
    let said = home.says("reconcile").ok();
    assert!(said.contains(own) && said.contains(served), "{said}");
    let mut how = 0;
    while spoil(&config, how) {
        for line in ["reconcile --dry-run", "reconcile"] {
            let said = home.says(line).ok();
            assert!(said.contains(own) && said.contains(served), "{how}: {said}");
            assert!(said.contains("which gateway serves it is as it was known last: `"), "{how}: {said}");
            assert!(said.contains("writer/config.yaml` "), "{how}: {said}");
        }
        how += 1;
    }
    assert_eq!(how, 7);
}

#[test]
fn a_configuration_that_may_not_be_read_changes_nothing_and_is_named() {
    let home = home("exit 1");
    let config = home.profile_dir("writer").join("config.yaml");
    fs::write(&config, "gateway: {standalone: true}\n").unwrap();
    if rustix::process::geteuid().is_root() {
        // In a home of somebody else, root's commands are that user's.
        fs::set_permissions(home.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        let ran = Command::new("chown").arg("-R").arg("65534:65534").arg(home.path()).status().unwrap();
        assert!(ran.success());
    }
    let own = "profile=writer prior_state=running action=started";
    assert!(home.says("reconcile").ok().contains(own));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&config, Some(0), Some(0)).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    } else {
        fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    }
    for line in ["reconcile --dry-run", "reconcile"] {
        let ran = home.says(line);
        assert!(ran.out.contains(own), "{ran:?}");
        assert!(ran.out.contains("which gateway serves it is as it was known last: `"), "{ran:?}");
        assert!(ran.out.contains("writer/config.yaml` cannot be read: Permission denied"), "{ran:?}");
    }
}

/// Waits until a profile is served, and returns its report. No event of a service tells when the
/// gateway has written its file.
fn until_served(home: &Home, name: &str) -> serde_json::Value {
    waiting::polled_slowly("that it is served", || {
        Some(home.report(name)).filter(|report| report["state"] == "served")
    })
}

#[test]
fn a_state_file_that_names_the_process_of_somebody_else_serves_nobody() {
    let mut home = home(
        "echo \"{\\\"pid\\\": $$, \\\"served_profiles\\\": [\\\"default\\\", \\\"coder\\\", \\\"writer\\\"]}\" > \"$HERMES_HOME/state.new\"\n\
         mv \"$HERMES_HOME/state.new\" \"$HERMES_HOME/gateway_state.json\"\nexec sleep 1000",
    );
    home.up_with(["up"]);
    home.until("default", Condition::Up);
    let report = until_served(&home, "coder");
    assert_eq!(report["served"]["pid"], home.pid("default"), "{report}");
    assert_eq!((home.says("health coder").code, &report["served_from"]), (Some(0), &"server".into()));
    for pid in [1, 0, -1, i64::from(std::process::id()), i64::MAX] {
        let state = format!(r#"{{"pid": {pid}, "served_profiles": ["coder", "writer"]}}"#);
        fs::write(home.path().join("gateway_state.json"), state).unwrap();
        let report = home.report("coder");
        assert_eq!(report["state"], "down", "{pid}: {report}");
        assert!(report["reason"].as_str().unwrap().starts_with("default serves it, and "), "{report}");
        assert_eq!(home.says("health coder").code, Some(1), "{pid}");
    }
    let said = home.says("explain coder").ok();
    assert!(said.contains("default"), "{said}");
}

/// A gateway that shows that it works and serves coder and writer, and takes no new work while a
/// file asks for that.
const SERVER: &str = "say() {
  served='[\"default\", \"coder\", \"writer\"]'
  printf '{\"pid\": %s, \"served_profiles\": %s, \"gateway_state\": \"%s\", \"active_agents\": 0}' \\
    $$ \"$served\" \"$1\" >\"$HERMES_HOME/state.new\"
  mv \"$HERMES_HOME/state.new\" \"$HERMES_HOME/gateway_state.json\"
}
mkdir -p \"$HERMES_HOME/state\"
while :; do
  : >\"$HERMES_HOME/state/gateway.heartbeat\"
  if [ -e \"$HERMES_HOME/.drain_request.json\" ]; then say draining; else say running; fi
  sleep 0.2
done";

#[test]
fn profiles_are_drained_with_the_gateway_that_serves_them_where_both_are_meant() {
    set_wait_limit(Duration::from_mins(2));
    let mut home = home(SERVER);
    home.up_with(["up"]);
    home.until("default", Condition::Up);
    until_served(&home, "coder");
    until_served(&home, "writer");
    let pid = home.pid("default");
    let ran = home.says("gateway restart --all --drain=100s");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("default: idle after "), "{ran:?}");
    for name in ["coder", "writer"] {
        assert!(ran.out.contains(&format!("{name}: served anew by the gateway of default")), "{ran:?}");
    }
    assert_ne!(home.pid("default"), pid);
    let refused = home.says("gateway drain coder --for 100s");
    assert!(refused.code == Some(1) && refused.err.contains("only be drained as a whole"), "{refused:?}");
    let ran = home.says("gateway drain --all --for 100s --then stop");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["coder", "writer"] {
        assert_eq!(home.state(name)["desired_state"], "stopped", "{ran:?}");
    }
    assert_eq!(home.report("default")["state"], "down");
}

/// As [`SERVER`], but it lists nobody while there is a file `alone`.
fn listing() -> String {
    SERVER.replace("served=", "[ -e \"$HERMES_HOME/alone\" ] && served='[]' || served=")
}

/// Answers each request as if it were done.
fn answer(listener: &UnixListener, done: &str) {
    for mut stream in listener.incoming().flatten() {
        let mut line = String::new();
        let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
        let name = if line.contains("writer") { "writer" } else { "coder" };
        let _ = writeln!(stream, "{{\"result\": {{\"{done}\": \"{name}\"}}}}");
    }
}

#[test]
fn a_gateway_that_answers_that_it_serves_a_profile_no_longer_is_believed_when_it_lists_it_no_longer() {
    let home = serving_two(SERVER);
    let listener = UnixListener::bind(home.path().join("gateway.sock")).unwrap();
    std::thread::spawn(move || answer(&listener, "unserved"));
    let ran = home.says("gateway stop coder --timeout 2");
    assert!(ran.code == Some(1) && ran.err.contains(" s still lists it"), "{ran:?}");
    // The stop has taken it out, so another one is asked to be served anew.
    let ran = home.says("gateway restart writer --timeout 2");
    assert!(ran.code == Some(1) && ran.err.contains(" s still lists it"), "{ran:?}");
}

#[test]
fn a_gateway_whose_control_socket_hangs_or_lies_is_named_and_keeps_no_command_beyond_its_time() {
    let home = serving_two(&listing());
    // The kernel takes what is asked, and nobody ever answers.
    let listener = UnixListener::bind(home.path().join("gateway.sock")).unwrap();
    let silent = "its control socket has not answered within ";
    let ran = home.says("gateway stop coder --timeout 2");
    let expected = format!("default serves coder until it looks at its profiles again: {silent}");
    assert!(ran.code == Some(0) && ran.err.contains(&expected), "{ran:?}");
    assert_eq!(home.state("coder")["desired_state"], "stopped", "{ran:?}");
    let ran = home.says("gateway restart writer --timeout 2");
    assert!(ran.code == Some(1) && ran.err.contains(silent), "{ran:?}");
    fs::write(home.path().join("alone"), "").unwrap();
    waiting::polled_slowly("that it lists nobody", || {
        (home.report("writer")["state"] == "down").then_some(())
    });
    let ran = home.says("gateway start coder --timeout 2");
    assert!(ran.code == Some(1) && ran.err.contains(silent), "{ran:?}");
    // One that answers what is not so is not believed.
    std::thread::spawn(move || answer(&listener, "served"));
    let ran = home.says("gateway start writer --timeout 2");
    assert!(ran.code == Some(1) && ran.err.contains("it does not list it among those"), "{ran:?}");
}

/// Returns a home whose default gateway serves coder and writer.
fn serving_two(server: &str) -> Home {
    set_wait_limit(Duration::from_mins(2));
    let mut home = home(server);
    home.up_with(["up"]);
    until_served(&home, "coder");
    until_served(&home, "writer");
    home
}

#[test]
fn of_two_gateways_that_serve_one_profile_the_command_that_doctor_prints_leaves_one() {
    // It serves coder for as long as nothing has taken coder out.
    let without_coder =
        "[ -e \"$HERMES_HOME/profiles/coder/gateway.parked\" ] && served='[\"writer\"]'\n  printf";
    let server = SERVER.replace("printf", without_coder);
    let home = serving_two(&format!("[ \"$1\" != -p ] || exec sleep 1000\n{server}"));
    let pid = home.pid("default");
    // Somebody starts the gateway of coder itself, past every command.
    home.slot("coder").send(&[Control::Up]).unwrap();
    home.until_report("coder", "that two gateways serve it", |report| {
        report["pid"].is_i64() && report["up"] == true && report["served"]["pid"] == pid
    });
    fixes(&home, "topology", Some("coder"), "error");
    let report = until_served(&home, "coder");
    assert_eq!((&report["served"]["pid"], &report["pid"]), (&pid.into(), &Value::Null), "{report}");
    assert_eq!(home.state("coder")["desired_state"], "running");
    until_served(&home, "writer");
}

/// Returns how often a gateway that answers nobody was asked.
fn questions(listener: &UnixListener) -> usize {
    listener.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| listener.accept().ok()).count()
}

#[test]
fn a_gateway_whose_control_socket_hangs_keeps_a_command_for_many_profiles_no_longer_than_for_one() {
    let home = serving_two(SERVER);
    let listener = UnixListener::bind(home.path().join("gateway.sock")).unwrap();
    let ran = home.says("gateway restart coder writer --timeout 6");
    let again = "its control socket has not answered for another profile either";
    assert!(ran.code == Some(1) && ran.err.contains(again), "{ran:?}");
    assert_eq!(questions(&listener), 1, "{ran:?}");
    let ran = home.says("gateway stop coder writer --timeout 6");
    let expected = format!("default serves writer until it looks at its profiles again: {again}");
    assert!(ran.code == Some(0) && ran.err.contains(&expected), "{ran:?}");
    assert_eq!(questions(&listener), 1, "{ran:?}");
    for name in ["coder", "writer"] {
        assert_eq!(home.state(name)["desired_state"], "stopped", "{ran:?}");
    }
}

#[test]
fn a_profile_that_is_deleted_is_let_go_of_by_the_gateway_that_serves_it() {
    let home = serving_two(&listing());
    let listener = UnixListener::bind(home.path().join("gateway.sock")).unwrap();
    let (alone, directory) = (home.path().join("alone"), home.profile_dir("coder"));
    // It takes one request, and lists the profile no longer.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        let was_there = directory.exists();
        fs::write(alone, "").unwrap();
        writeln!(stream, "{{\"result\": {{\"unserved\": \"coder\"}}}}").unwrap();
        (line, was_there)
    });
    let ran = home.says("profile delete coder --yes");
    let (line, was_there) = server.join().unwrap();
    assert!(line.contains("\"unserve-profile\"") && line.contains("\"coder\"") && was_there, "{line}");
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    assert!(!home.profile_dir("coder").exists());
    // One that cannot be asked keeps nobody from deleting a profile, and that is said.
    fs::remove_file(home.path().join("alone")).unwrap();
    until_served(&home, "writer");
    let ran = home.says("profile delete writer --yes");
    let expected = "default serves writer until it looks at its profiles again: its control socket does not";
    assert!(ran.code == Some(0) && ran.err.contains(expected), "{ran:?}");
    assert!(!home.profile_dir("writer").exists());
}

#[test]
fn events_tell_when_a_gateway_begins_to_serve_a_profile_and_when_and_why_it_ends() {
    set_wait_limit(Duration::from_mins(2));
    let mut home = home(&listing());
    home.up_with(["up"]);
    until_served(&home, "coder");
    let pid = home.pid("default");
    let events = home.start(["events", "coder"]);
    until_subscribed(&events, &home, "coder");
    // The gateway takes coder out of those that it serves.
    fs::write(home.profile_dir("coder").join("gateway.parked"), "").unwrap();
    fs::write(home.path().join("alone"), "").unwrap();
    let said = events.until_says(" not served: taken out of the profiles that default serves\n");
    assert!(!said.contains("writer") && !said.contains("default served"), "{said}");
    fs::remove_file(home.profile_dir("coder").join("gateway.parked")).unwrap();
    fs::remove_file(home.path().join("alone")).unwrap();
    events.until_says(&format!(" coder served: by default (pid {pid})\n"));
    // No file is written when it is stopped.
    home.says("gateway stop default").ok();
    events.until_says(" coder not served: default serves it, and is not up\n");
    home.says("gateway start default").ok();
    let pid = home.pid("default");
    events.until_says(&format!(" coder served: by default (pid {pid})\n"));
}

#[test]
fn a_start_of_a_profile_is_not_given_up_because_the_gateway_that_serves_it_was_stopped_before() {
    let mut home = home(SERVER);
    home.up_with(["up"]);
    home.until("default", Condition::Up);
    until_served(&home, "coder");
    home.says("gateway stop default").ok();
    // The supervisor does not read the command, so for all of the time it wants the gateway down.
    home.running().signal(Signal::STOP);
    let ran = home.says("gateway start coder --timeout 5");
    home.running().signal(Signal::CONT);
    assert!(ran.code == Some(99) && !ran.err.contains("stopped meanwhile"), "{ran:?}");
    home.says("gateway start coder").ok();
    home.says("gateway stop coder").ok();
}
