//! `docs/guides/habits.md`: what is said there to type, is typed here.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::home::Home;
use crate::support::WAIT_LIMIT;

/// Returns the commands in the last column of the tables.
fn commands() -> BTreeSet<String> {
    let text = include_str!("../../docs/guides/habits.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let commands = rows.map(|(_, ours)| ours.split_once('`').unwrap().0.to_owned());
    commands.collect()
}

/// Returns the words of a command, of which only patterns are quoted.
fn words(command: &str) -> Vec<String> {
    let words = command.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    words.skip(1).collect()
}

/// Returns a home with everything that the tables name.
fn home() -> Home {
    let mut home = Home::with_script("echo \"error of $1\"; exec sleep 1000", &[]);
    for name in ["coder", "writer", "tester"] {
        home.plant(name);
        std::fs::write(home.profile_dir(name).join(".env"), "LOG_LEVEL=info\n").unwrap();
    }
    home.up_quietly();
    for name in ["coder", "writer", "tester", "default"] {
        home.until_supervised(name);
        home.says(&format!("start {name}")).ok();
        home.until_logged(name, "error of");
    }
    home
}

/// Returns whether a command goes on until somebody ends it.
fn goes_on(words: &[String]) -> bool {
    words.iter().any(|word| ["-f", "--watch", "events"].contains(&&**word))
}

/// Returns whether a command begins or ends a supervisor.
fn is_of_the_supervisor(words: &[String]) -> bool {
    words.first().is_some_and(|verb| ["up", "down"].contains(&&**verb))
}

#[test]
fn each_command_that_the_page_of_habits_names_works() {
    let home = home();
    let all = commands();
    assert!(all.len() > 30, "{all:?}");
    for command in &all {
        let words = words(command);
        if is_of_the_supervisor(&words) {
            continue;
        }
        if words == ["top"] {
            crate::top::opens_and_ends(&home);
            continue;
        }
        if goes_on(&words) {
            let running = home.start_uncounted(&words);
            // `events` says nothing before something happens.
            if words[0] == "events" {
                crate::listening::until_subscribed(&running, &home, "coder");
                home.says("restart coder").ok();
            }
            running.until_out(command, |out| (!out.is_empty()).then_some(()));
            running.signal(Signal::INT);
            running.ended(WAIT_LIMIT);
            continue;
        }
        let ran = home.run(&words);
        // Nothing has failed, which is what is asked.
        let expected = i32::from(words.contains(&"--failed".to_owned()));
        assert_eq!(ran.code, Some(expected), "{command}: {ran:?}");
        // What it stopped or took away is there again for the commands that follow.
        let takes_away = |word: &String| ["stop", "delete", "unregister"].contains(&&**word);
        if !words.iter().any(takes_away) {
            continue;
        }
        if words.contains(&"delete".to_owned()) {
            home.plant("tester");
        }
        // Whoever watches the profiles may be quicker.
        home.says("gateway register --all");
        for name in ["coder", "writer", "tester"] {
            home.until_supervised(name);
            home.says(&format!("start {name}")).ok();
        }
    }
}

#[test]
fn the_commands_of_the_page_that_begin_and_end_a_supervisor_work() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.plant("coder");
    let of_the_supervisor: Vec<Vec<String>> =
        commands().iter().map(|command| words(command)).filter(|words| is_of_the_supervisor(words)).collect();
    assert_eq!(of_the_supervisor, [vec!["down"], vec!["up"], vec!["up", "--detach"], vec!["up", "-d"]]);
    for background in ["--detach", "-d"] {
        home.says(&format!("up {background}")).ok();
        home.says("down").ok();
    }
    home.up();
    home.says("down").ok();
    assert_eq!(home.ended().code, Some(0));
}
