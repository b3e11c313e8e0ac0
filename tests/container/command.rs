//! The container's own command: what is run, with what, and how its end becomes the container's
//! end.

use crate::engine::{container, image, skipped};

#[test]
fn the_exit_code_of_the_command_is_the_containers() {
    if skipped() {
        return;
    }
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(container().run(&["sh", "-c", script]).code, code, "{script}");
    }
    assert_eq!(container().run(&["/no/such/program"]).code, 127);
    assert_eq!(container().run(&["/etc/passwd"]).code, 126);
}

#[test]
fn arguments_that_name_no_program_are_a_command_of_hermes() {
    if skipped() {
        return;
    }
    for words in [&["--version"][..], &["hermes", "--version"]] {
        let answer = container().run(words);
        assert!(answer.ok().contains("Hermes Agent v0.19.0"), "{answer:#?}");
    }
    // There is a program of this name on `PATH` too, but the word is for the agent.
    let shadow = "printf '#!/bin/sh\\necho shadowed\\n' > $1; chmod +x $1; exec $0 mcp --help";
    let volume = "/opt/data/.local/bin";
    let script = format!(
        "mkdir -p {volume}; set -- {volume}/mcp; {}",
        shadow.replace("$0", "/init /opt/hermes/docker/main-wrapper.sh")
    );
    let answer = container().run(&["bash", "-c", &script]);
    assert!(answer.ok().contains("usage: hermes mcp"), "{answer:#?}");
}

#[test]
fn the_command_runs_as_the_agent_where_the_container_was_told_to() {
    if skipped() {
        return;
    }
    let script = "id -u; id -g; pwd; echo $HOME; echo $HERMES_HOME; command -v hermes";
    let answer = container().with("--workdir /tmp").run(&["sh", "-c", script]);
    let lines: Vec<&str> = answer.ok().lines().rev().take(6).collect();
    let expected = ["/opt/hermes/bin/hermes", "/opt/data", "/opt/data", "/tmp", "10000", "10000"];
    assert_eq!(lines, expected, "{answer:#?}");
    assert_eq!(container().run(&["pwd"]).last_line(), "/opt/hermes");
}

#[test]
fn standard_input_reaches_the_command_to_its_end() {
    if skipped() {
        return;
    }
    let script =
        "printf 'one\\ntwo' | timeout 60 docker run --rm --interactive \"$1\" sh -c 'cat; echo; echo over'";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, "-", &image()]);
    let output = crate::support::output(&mut command).unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.ends_with("one\ntwo\nover\n"), "{out}");
}

#[test]
fn on_a_terminal_the_command_has_the_terminal() {
    if skipped() {
        return;
    }
    // The engine's client sends the size of its terminal only once the container runs.
    let script = "exec 3</dev/tty && echo has-a-tty; for n in {1..200}; do read -rt 0.1 <> <(:); [ \"$(stty size)\" = '40 132' ] && break; done; read -p 'name? ' name; tput cols; stty size; echo \"hello $name\"; exit 7";
    let (code, seen) = container().run_on_a_terminal(&["bash", "-c", script], &[("name?", b"coder\n")]);
    assert_eq!(code, 7, "{seen}");
    for words in ["132", "40 132", "has-a-tty", "hello coder"] {
        assert!(seen.contains(words), "{words:?}: {seen}");
    }
}

#[test]
fn on_a_terminal_control_c_interrupts_the_command_and_job_control_works() {
    if skipped() {
        return;
    }
    // The terminal also shows what is typed, so the typed text differs from the printed text.
    let dialogue: &[(&str, &[u8])] = &[
        ("begin> ", b"sh -c 'echo in fr\"\"ont; exec sleep 60'\n"),
        ("in front", b"\x03"),
        ("^C", b"echo back ag\"\"ain; exit 3\n"),
    ];
    let shell = ["env", "PS1=begin> ", "bash", "--norc", "-i"];
    let (code, seen) = container().run_on_a_terminal(&shell, dialogue);
    assert!(seen.contains("back again") && !seen.contains("no job control"), "{seen}");
    assert_eq!(code, 3, "{seen}");
}

#[test]
fn signals_to_the_container_reach_the_command() {
    if skipped() {
        return;
    }
    let script = "trap 'echo got-usr1; exit 5' USR1; echo waiting; while :; do sleep infinity & wait; done";
    let container = container().started_as(&["bash", "-c", script]);
    container.says("waiting");
    container.kill("USR1");
    assert_eq!(container.ended(), 5);
    container.says("got-usr1");
}

#[test]
fn orphans_are_reaped() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.sh("for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' & sh -c 'exit 0' &) ; done");
    // PID 1 works on each request, and a second request comes after it.
    let end = container
        .sh("timeout 20 bash -c 'while ps axo stat= | grep -q ^Z; do read -rt 0.1 <> <(:); done'; echo $?");
    assert_eq!(end, "0", "{}", container.sh("ps axf"));
}
