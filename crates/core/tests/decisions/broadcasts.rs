//! Who of many subscribers receives an event when, and which events are lost: each line is what is
//! asked for, and what is sent.

use std::cell::RefCell;

use gatevisor_core::broadcasts::{
    BroadcastQueue, BroadcastTally, MAX_ENTRIES, MAX_SUBSCRIBERS, Reach, Slice,
};

/// A broadcast: its name, and the slices that it still takes. Below zero, it ends at its limit.
type Broadcast = (String, i32);

/// A service: its name, filled up with zeros.
type ServiceKey = [u8; 16];

fn key(name: &str) -> ServiceKey {
    let mut key = ServiceKey::default();
    assert!(name.len() <= key.len(), "{name}");
    key.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    key
}

fn name(key: &ServiceKey) -> String {
    String::from_utf8_lossy(key).trim_end_matches('\0').to_owned()
}

/// Plays a table. `begin SERVICE OWNER NAME SLICES` begins a broadcast that takes so many slices,
/// and `limited` instead of `begin` one that reaches the limit of its fifodir with the last slice;
/// `go-on` continues. A line `N times …` stands for N lines, in which `#` is the line's number,
/// from 0. What follows `=>` are the broadcasts of which a slice was sent, and then `cut-short`,
/// with the services if that was found later, and `over` if nothing is left.
fn check(table: &str) {
    let mut queue = BroadcastQueue::<ServiceKey, Broadcast>::default();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once(" => ").expect("well formed");
        let (times, command) = match left.split_once(" times ") {
            Some((times, command)) => (times.parse().expect("a number"), command),
            None => (1, left),
        };
        for number in 0..times {
            let number = number.to_string();
            let command = command.replace('#', &number);
            let words: Vec<&str> = command.split_ascii_whitespace().collect();
            assert_eq!(play(&mut queue, &words), expected.replace('#', &number), "`{command}` of `{line}`");
        }
    }
}

fn play(queue: &mut BroadcastQueue<ServiceKey, Broadcast>, words: &[&str]) -> String {
    let slices_sent = RefCell::new(Vec::new());
    let send = |(name, slices): &mut Broadcast| {
        slices_sent.borrow_mut().push(name.clone());
        let (limit, end) = (*slices == -1, *slices == 1);
        *slices -= slices.signum();
        if limit {
            Slice::AtLimit
        } else if end {
            Slice::Last
        } else {
            Slice::More
        }
    };
    let cut_short = match *words {
        [how @ ("begin" | "limited"), service, owner, name, slices] => {
            let slices: i32 = slices.parse().expect("slices");
            let one = (name.to_owned(), if how == "limited" { -slices } else { slices });
            let reach = queue.begin(key(service), owner.parse().expect("a uid"), one, send);
            (reach == Reach::CutShort).then(|| "cut-short".to_owned())
        }
        ["go-on"] => {
            let services = queue.go_on(send);
            let names: Vec<String> = services.iter().map(name).collect();
            (!names.is_empty()).then(|| format!("cut-short {}", names.join(" ")))
        }
        _ => unreachable!("{words:?}"),
    };
    let mut said = slices_sent.into_inner();
    said.extend(cut_short);
    said.extend(queue.is_empty().then(|| "over".to_owned()));
    if said.is_empty() { "-".to_owned() } else { said.join(" ") }
}

#[test]
fn few_subscribers_receive_an_event_at_once() {
    check(
        "
        begin a 1 x 1 => x over
        begin a 1 y 2 => y y over
        go-on         => over
        ",
    );
}

#[test]
fn a_later_event_of_a_service_waits_for_an_earlier_one_that_takes_long() {
    check(
        "
        begin a 1 x 7 => x x
        begin a 1 y 1 => -
        go-on         => x x x x
        begin a 1 z 1 => -
        go-on         => x y z over
        begin a 1 u 1 => u over
        ",
    );
}

#[test]
fn owners_take_turns_whatever_the_number_of_their_services() {
    check(
        "
        begin a 1 a 5 => a a
        begin b 1 b 5 => b b
        begin c 1 c 5 => c c
        begin z 2 z 5 => z z
        go-on         => a z b z
        go-on         => c z a b
        go-on         => c a b c over
        ",
    );
}

#[test]
fn a_broadcast_ends_at_the_limit_of_its_fifodir_and_the_next_one_of_the_service_follows() {
    check(
        "
        limited a 1 x 1 => x cut-short over
        limited a 1 x 2 => x x cut-short over
        limited a 1 x 3 => x x
        begin a 1 y 1   => -
        go-on           => x y cut-short a over
        ",
    );
}

#[test]
fn of_the_events_of_one_service_sixty_four_wait_and_more_are_lost() {
    check(
        "
        begin a 1 first 3             => first first
        63 times begin a 1 later-# 1  => -
        begin a 1 lost 1              => cut-short
        begin b 1 of-other-service 1  => of-other-service
        go-on                         => first later-0 later-1 later-2
        4 times begin a 1 x-# 1       => -
        begin a 1 lost 1              => cut-short
        ",
    );
}

#[test]
fn of_the_services_of_one_user_thirty_two_have_long_broadcasts_and_another_user_loses_nothing() {
    check(
        "
        32 times begin service-# 1 x-# 3 => x-# x-#
        begin one-more 1 lost 3          => lost lost cut-short
        begin one-more 1 short 2         => short short
        begin other 2 y 3                => y y
        go-on                            => x-0 y x-1 x-2
        3 times begin further-# 1 z-# 3  => z-# z-#
        begin one-more 1 lost 3          => lost lost cut-short
        ",
    );
}

#[test]
fn a_broadcast_reaches_a_thousand_subscribers_and_looks_at_sixteen_thousand_entries() {
    let counts_until_limit = |is_subscriber: bool| {
        let mut tally = BroadcastTally::default();
        assert!(tally.is_empty());
        let mut count = 1;
        while !tally.count(is_subscriber) {
            assert!(!tally.is_empty());
            count += 1;
        }
        count
    };
    assert_eq!(counts_until_limit(true), MAX_SUBSCRIBERS);
    assert_eq!(counts_until_limit(false), MAX_ENTRIES);
    assert_eq!((MAX_SUBSCRIBERS, MAX_ENTRIES), (1000, 16_384));
}
