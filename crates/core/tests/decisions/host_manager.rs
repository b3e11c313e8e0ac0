//! Which messages to the host's service manager are due when.

use gatevisor_core::Tick;
use gatevisor_core::host_manager::{HostNotice, HostNotifier, ServiceCounts};

fn show(notices: impl IntoIterator<Item = HostNotice>) -> String {
    let names: Vec<&str> = notices
        .into_iter()
        .map(|notice| match notice {
            HostNotice::Ready => "ready",
            HostNotice::Reloading => "reloading",
            HostNotice::Stopping => "stopping",
            HostNotice::Watchdog => "watchdog",
            HostNotice::Status => "status",
        })
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// Plays a table of milliseconds, event, message and next deadline.
fn play(watchdog_us: Option<u64>, table: &str) {
    let mut notifier = HostNotifier::new(watchdog_us);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [at, event, expected_notices, expected_deadline] = words[..] else { unreachable!("{line}") };
        let now = Tick(at.parse().expect("milliseconds"));
        let notices = match event {
            "settled" => show(notifier.settled(now)),
            "changed" => {
                notifier.changed(now);
                show([])
            }
            "no-room" => {
                notifier.found_no_room(HostNotice::Ready, now);
                show([])
            }
            "reload" => show(notifier.reload()),
            "stop" => show(notifier.stop()),
            "timer" => show(notifier.due(now)),
            other => unreachable!("{other}"),
        };
        let deadline = notifier.deadline().map_or_else(|| "-".to_owned(), |Tick(at)| at.to_string());
        assert_eq!([notices, deadline], [expected_notices, expected_deadline], "{line}");
    }
}

#[test]
fn ready_is_said_once_the_directories_are_read_and_changes_at_most_once_a_second() {
    play(
        None,
        "
        0      settled  ready   100
        10     settled  -       100
        50     changed  -       100
        100    timer    status  -
        105    changed  -       1100
        1100   timer    status  -
        1101   timer    -       -
        9000   changed  -       9100
        9100   timer    status  -
    ",
    );
}

#[test]
fn ready_is_said_again_where_the_manager_had_no_room_for_it() {
    play(
        None,
        "
        0      settled  ready   100
        0      no-room  -       100
        100    timer    status  -
        100    settled  ready   1100
        110    settled  -       1100
    ",
    );
}

#[test]
fn a_reload_is_said_once_until_the_directories_are_read() {
    play(
        None,
        "
        0      settled  ready      100
        100    timer    status     -
        200    reload   reloading  -
        210    reload   -          -
        220    settled  ready      1100
        230    settled  -          1100
    ",
    );
}

#[test]
fn the_directories_of_the_start_are_no_reload() {
    play(
        None,
        "
        0      reload   -      -
        10     settled  ready  110
    ",
    );
}

#[test]
fn the_end_is_said_once_and_nothing_is_ready_after_it() {
    play(
        None,
        "
        0      settled  ready     100
        100    timer    status    -
        200    reload   reloading -
        210    stop     stopping  -
        220    stop     -         -
        230    settled  -         -
        240    reload   -         -
        250    changed  -         1100
        1100   timer    status    -
    ",
    );
}

#[test]
fn a_sign_of_life_comes_at_half_of_the_limit() {
    play(
        Some(3_000_000),
        "
        0      changed  -                100
        10     timer    -                100
        40     settled  ready            100
        100    timer    status           1540
        1540   timer    watchdog         3040
        2000   changed  -                2100
        2100   timer    status           3040
        3040   stop     stopping         3040
        3040   timer    watchdog         4540
    ",
    );
}

#[test]
fn the_shortest_limit_does_not_keep_the_loop_busy() {
    play(
        Some(1),
        "
        0      settled  ready     1
        1      timer    watchdog  2
    ",
    );
}

#[test]
fn only_services_that_shall_be_up_count() {
    let mut counts = ServiceCounts::default();
    for (is_wanted, is_up, is_ready) in
        [(true, true, true), (true, true, false), (true, false, true), (false, true, true)]
    {
        counts.add(is_wanted, is_up, is_ready);
    }
    assert_eq!(counts, ServiceCounts { wanted: 3, up: 2, ready: 1 });
    assert_eq!(counts.to_string(), "2 of 3 services up, 1 ready");
}
