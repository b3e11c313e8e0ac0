//! How fast commands are obeyed: each line is a time, what comes, and what is done.

use gatevisor_core::Tick;
use gatevisor_core::command_limiter::{Admission, CommandLimiter};

/// Plays a table: `TIME SERVICE OWNER BYTES => READ/pause` for a FIFO that has so many bytes, `TIME
/// scan => read/pause`, and `TIME resume => WHO…`, each with `until N` where the deadline matters.
fn check(table: &str) {
    let mut limiter = CommandLimiter::default();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once(" => ").expect("well formed");
        let (time, event) = left.split_once(' ').expect("well formed");
        let words: Vec<&str> = event.split_ascii_whitespace().collect();
        let mut said = play(&mut limiter, Tick(time.parse().expect("well formed")), &words);
        if expected.contains("until") {
            let deadline = limiter.deadline().map_or("never".to_owned(), |at| at.0.to_string());
            said = format!("{said}, until {deadline}");
        }
        assert_eq!(said, expected, "in `{line}`");
    }
}

fn play(limiter: &mut CommandLimiter<char>, now: Tick, words: &[&str]) -> String {
    match words {
        ["scan"] => if limiter.admit_scan(now) { "read" } else { "pause" }.to_owned(),
        ["resume"] => {
            // A service that has gone is called `x`.
            let resumed = limiter.resume(now, |service| service != 'x');
            let scan = resumed.scan.then(|| "scan".to_owned());
            let who: Vec<String> =
                scan.into_iter().chain(resumed.services.iter().map(char::to_string)).collect();
            if who.is_empty() { "nobody".to_owned() } else { who.join(" ") }
        }
        [service, owner, bytes] => {
            let (service, owner) =
                (service.chars().next().expect("well formed"), owner.parse().expect("well formed"));
            match limiter.admit(now, service, owner) {
                Admission::Pause => "pause".to_owned(),
                Admission::Read(most) => {
                    let used = most.min(bytes.parse().expect("well formed"));
                    limiter.charge(service, owner, used);
                    used.to_string()
                }
            }
        }
        _ => panic!("`{words:?}` means nothing"),
    }
}

#[test]
fn what_was_written_at_once_is_obeyed_at_once_and_more_waits_for_the_next_period() {
    check(
        "
        100 a 1 10   => 10, until never
        100 a 1 1000 => 256, until never
        101 a 1 1000 => pause, until 104
        101 b 1 200  => 64, until 104
        104 resume   => a, until never
        104 a 1 744  => 256
        ",
    );
}

#[test]
fn a_user_with_many_services_is_no_faster_and_another_user_does_not_wait() {
    check(
        "
        100 a 1 256 => 256
        100 b 1 256 => 256
        100 c 1 1   => pause, until 104
        100 d 1 1   => pause, until 104
        100 z 2 1   => 1
        104 resume  => c d, until never
        ",
    );
}

#[test]
fn of_many_that_wait_those_go_on_that_have_waited_longest_and_each_reads_a_little() {
    check(
        "
        100 a 1 256 => 256
        100 b 1 256 => 256
        100 c 1 1   => pause
        100 d 1 1   => pause
        100 x 1 1   => pause
        100 e 1 1   => pause
        100 f 1 1   => pause
        100 g 1 1   => pause
        100 h 1 1   => pause
        100 i 1 1   => pause
        100 j 1 1   => pause
        100 k 1 1   => pause, until 104
        104 resume  => c d e f g h i j, until 108
        104 c 1 99  => 64
        108 resume  => k, until never
        ",
    );
}

#[test]
fn the_supervisors_own_fifo_is_read_a_few_times_in_a_period() {
    check(
        "
        100 scan   => read
        100 scan   => read
        100 scan   => read
        100 scan   => read
        101 scan   => read
        101 scan   => read
        101 scan   => read
        102 scan   => read, until never
        103 scan   => pause, until 104
        104 resume => scan, until never
        104 scan   => read
        ",
    );
}
