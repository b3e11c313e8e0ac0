//! Which unread lines are thrown away while no log daemon works: each line is a pipe, its bytes,
//! and what becomes of them.

use gatevisor_core::Tick;
use gatevisor_core::unread::{UnreadPipe, next_look};

fn check(table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [pipe, bytes, "=>", expected] = words[..] else { unreachable!("{line}") };
        let pipe = match pipe {
            "in-use" => UnreadPipe::InUse,
            "releasing" => UnreadPipe::Releasing,
            other => unreachable!("{other}"),
        };
        let is_emptied = pipe.is_emptied(bytes.parse().expect("bytes"));
        assert_eq!(if is_emptied { "lost" } else { "kept" }, expected, "{line}");
    }
}

#[test]
fn a_pipe_in_use_is_emptied_before_it_is_full_and_one_that_is_released_at_once() {
    check(
        "
        in-use    0     => kept
        in-use    32767 => kept
        in-use    32768 => lost
        in-use    65536 => lost
        releasing 0     => kept
        releasing 1     => lost
        ",
    );
}

#[test]
fn the_pipes_are_looked_at_four_times_a_second() {
    assert_eq!(next_look(Tick(1000)), Tick(1250));
}
