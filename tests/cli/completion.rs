//! Completion of verbs, options and names of profiles, in the real shells.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::home::Home;
use crate::terminal::{terminal, until_seen};

/// Returns a home with three profiles.
fn home() -> Home {
    let home = Home::new();
    for name in ["coder", "cobbler", "writer"] {
        home.plant(name);
    }
    home
}

/// Returns a command that runs a shell, which must be installed: the tests of a machine without it
/// would show nothing.
fn shell(home: &Home, name: &str, arguments: &[&str]) -> Command {
    let is_there = Command::new(name).arg("-c").arg("exit 0").stdin(Stdio::null()).status();
    assert!(
        is_there.is_ok(),
        "{name} is not installed, and its completion cannot be tested: apt-get install {name}"
    );
    let ours = home.command(["status"]);
    let mut command = Command::new(name);
    for (variable, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.args(arguments).env("HOME", home.beside("")).env("TERM", "xterm").stdin(Stdio::null());
    command
}

/// Returns the words that begin a command line on this home, under the name that shells complete.
fn line(home: &Home) -> String {
    let agent = home.agent().unwrap().display().to_string();
    format!("gatevisor --home {} --agent {agent}", home.path().display())
}

/// Has a shell complete a line by the tabulator key on a terminal and execute it, and waits until
/// the last word of what it executes is this one.
#[track_caller]
fn completes_on_a_terminal(home: &Home, name: &str, arguments: &[&str], setup: &str, expected: &str) {
    let (terminal, side) = terminal();
    let mut command = shell(home, name, arguments);
    let end = || Stdio::from(side.try_clone().unwrap());
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let script = home.beside(&format!("completions.{name}"));
    std::fs::write(&script, home.says(&format!("completions {name}")).ok()).unwrap();
    let mut keyboard: &File = &terminal;
    let mut types = |text: &str| keyboard.write_all(text.as_bytes()).unwrap();
    types(&format!("{setup}source {}\n", script.display()));
    // What is typed is echoed; only an executed line shows the sum.
    types("gatevisor() { shift $(($# - 1)); echo \"got <$1>\"; }; echo \"ready $((40 + 2))\"\n");
    until_seen(&terminal, "ready 42");
    types(&format!("{} restart {}\t\n", line(home), &expected[..3]));
    until_seen(&terminal, &format!("got <{expected}>"));
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn the_tabulator_key_completes_a_name_in_bash_and_zsh() {
    let home = home();
    completes_on_a_terminal(&home, "bash", &["--norc", "--noprofile", "-i"], "", "writer");
    let compinit = "autoload -U compinit; compinit -u -D; ";
    completes_on_a_terminal(&home, "zsh", &["-f", "-i"], compinit, "writer");
}

/// Returns what bash proposes for the last of these words.
fn bash(home: &Home, typed: &str) -> Vec<String> {
    let words: Vec<&str> = typed.split(' ').collect();
    let [before @ .., last] = &*words else { panic!("no word in `{typed}`") };
    let previous = before.last().expect("a word before the last");
    let ask = format!(
        "COMP_WORDS=({} '{last}'); COMP_CWORD={}; COMP_TYPE=9\n_clap_complete_gatevisor gatevisor '{last}' '{previous}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        before.join(" "),
        before.len()
    );
    let script = home.says("completions bash").ok();
    let output = shell(home, "bash", &["--norc", "-c", &format!("{script}\n{ask}")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    proposed(&output.stdout)
}

/// Returns the words that a shell proposes, one a line, without what it says of each.
fn proposed(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(out);
    let words = text.lines().filter_map(|line| line.split(['\t', ':']).next()).map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns what fish proposes for the last word of a line.
fn fish(home: &Home, typed: &str) -> Vec<String> {
    let script = home.beside("completions.fish");
    std::fs::write(&script, home.says("completions fish").ok()).unwrap();
    let ask = format!("source {}; complete --do-complete '{typed}'", script.display());
    let output = shell(home, "fish", &["--no-config", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    proposed(&output.stdout)
}

/// Returns what zsh proposes for the last word of a line: what its completion function hands to the
/// shell, which knows on a terminal only what to do with it.
fn zsh(home: &Home, typed: &str) -> Vec<String> {
    let words: Vec<&str> = typed.split(' ').collect();
    let [before @ .., last] = &*words else { panic!("no word in `{typed}`") };
    let script = home.beside("completions.zsh");
    std::fs::write(&script, home.says("completions zsh").ok()).unwrap();
    let ask = format!(
        "compdef() {{ : }}\n_describe() {{ print -rl -- $completions }}\nsource {}\nwords=({} '{}'); CURRENT={}\n\
         _clap_dynamic_completer_gatevisor",
        script.display(),
        before.join(" "),
        last,
        words.len()
    );
    let output = shell(home, "zsh", &["-f", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    proposed(&output.stdout)
}

type Shell = fn(&Home, &str) -> Vec<String>;
const SHELLS: [(&str, Shell); 3] = [("bash", bash), ("fish", fish), ("zsh", zsh)];

#[test]
fn names_of_profiles_are_completed_on_the_home_that_the_line_names() {
    let home = home();
    for (name, complete) in SHELLS {
        for verb in ["restart co", "profile delete --yes writer co", "logs -f co", "-p co", "explain co"] {
            let mut found = complete(&home, &format!("{} {verb}", line(&home)));
            found.sort();
            assert_eq!(found, ["cobbler", "coder"], "{name}: {verb}");
        }
        assert!(complete(&home, &format!("{} profile create co", line(&home))).is_empty(), "{name}");
        let nowhere = format!("gatevisor --home {}/nowhere restart co", home.path().display());
        assert!(complete(&home, &nowhere).is_empty(), "{name}");
    }
    assert!(!home.path().join("nowhere").exists());
}

#[test]
fn verbs_options_and_names_of_applets_are_completed() {
    let home = Home::missing();
    for (name, complete) in SHELLS {
        assert_eq!(complete(&home, "gatevisor gateway un"), ["unregister"], "{name}");
        assert_eq!(complete(&home, "gatevisor restart --unr"), ["--unresponsive"], "{name}");
        assert_eq!(complete(&home, "gatevisor s6 s6-svst"), ["s6-svstat"], "{name}");
        assert!(complete(&home, "gatevisor co").contains(&"completions".to_owned()), "{name}");
    }
    assert!(!home.path().exists());
}
