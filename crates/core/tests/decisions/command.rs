//! The container's command: each line is an event and what follows.

use gatevisor_core::command::CommandMachine;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, signal};

/// Plays a table: `settled` and `busy` => starts or waits, `started PID` or `failed`, `asked
/// SIGNAL`, `stop` => the signal, `exited PID CODE` and `killed PID SIGNAL` => whether it was the
/// command, `code` => the exit code of the container.
fn check(is_container: bool, table: &str) {
    let mut command = CommandMachine::new(is_container);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, expected) = line.split_once("=>").unwrap_or((line, ""));
        let words: Vec<&str> = event.split_ascii_whitespace().collect();
        assert_eq!(play(&mut command, &words), expected.trim(), "in `{line}`");
    }
}

fn play(command: &mut CommandMachine, words: &[&str]) -> String {
    let pid = |word: &str| Pid::new(word.parse().expect("well formed")).expect("well formed");
    let number = |word: &str| signal::parse(word.as_bytes()).expect("well formed");
    let whose = |is_its_own: bool| if is_its_own { "own" } else { "other" }.to_owned();
    match words {
        [word @ ("settled" | "busy")] => {
            if command.starts(*word == "settled") { "starts" } else { "waits" }.to_owned()
        }
        ["started", process] => {
            command.started(Some(pid(process)));
            String::new()
        }
        ["failed"] => {
            command.started(None);
            String::new()
        }
        ["asked", by] => {
            command.asked_to_stop(number(by));
            String::new()
        }
        ["stop"] => command.stop().and_then(signal::name).unwrap_or("nothing").to_owned(),
        ["exited", process, code] => {
            let how = WaitStatus::exited(code.parse().expect("well formed"));
            whose(command.ended(pid(process), how))
        }
        ["killed", process, by] => {
            whose(command.ended(pid(process), WaitStatus::killed(number(by)).expect("well formed")))
        }
        ["code"] => format!("{}{}", command.exit_code(), if command.has_ended() { ", over" } else { "" }),
        _ => panic!("`{words:?}` means nothing"),
    }
}

#[test]
fn the_command_is_started_once_when_every_service_is_supervised_and_nowhere_but_in_a_container() {
    check(true, "busy => waits \n settled => starts \n settled => waits");
    check(false, "settled => waits \n code => 0");
}

#[test]
fn the_container_ends_as_its_command_did() {
    for (end, code) in
        [("exited 7 0", 0), ("exited 7 42", 42), ("killed 7 TERM", 143), ("killed 7 KILL", 137)]
    {
        check(
            true,
            &format!(
                "settled => starts \n started 7 \n exited 8 1 => other \n {end} => own \n code => {code}, over"
            ),
        );
    }
    check(true, "settled => starts \n failed \n code => 111, over");
    check(true, "settled => starts \n code => 0");
}

#[test]
fn a_command_that_ends_by_the_signal_that_was_asked_for_from_outside_is_no_failure() {
    for (asked, told, end, code) in [
        ("asked TERM", "SIGTERM", "killed 7 TERM", 0),
        ("asked INT", "SIGINT", "killed 7 INT", 0),
        ("asked TERM", "SIGTERM", "killed 7 KILL", 137),
        ("asked TERM", "SIGTERM", "exited 7 42", 42),
        // Nobody outside asked: a command of the supervisor's FIFO did.
        ("busy => waits", "SIGTERM", "killed 7 TERM", 143),
    ] {
        check(
            true,
            &format!(
                "settled => starts \n started 7 \n {asked} \n stop => {told} \n stop => nothing \n {end} => own \n code => {code}, over"
            ),
        );
    }
}

#[test]
fn of_several_signals_that_ask_for_the_end_the_first_one_counts() {
    check(true, "settled => starts \n started 7 \n asked INT \n asked TERM \n stop => SIGINT");
}
