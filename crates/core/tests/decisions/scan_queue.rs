//! What a scan looks at: each line is what happens, and the names in line after it.

use gatevisor_core::scan_queue::{
    EntryName, LinedUp, MAX_CHANGED, MAX_PENDING, MAX_RECHECK_BYTES, NAME_OVERHEAD, ScanQueue, ScanScope,
};

fn name(text: impl std::fmt::Display) -> EntryName {
    format!("{text}").into_bytes()
}

/// Returns a queue that has read an empty directory.
fn settled() -> ScanQueue {
    let mut queue = ScanQueue::new(true);
    let unread = || 0;
    queue.request(ScanScope::Whole, unread);
    assert_eq!(queue.begin(unread), Some(ScanScope::Whole));
    assert_eq!(queue.begin_reading(Vec::new()), LinedUp::All);
    queue.reading_ended(true);
    assert!(!queue.is_busy());
    queue
}

/// Plays a table against a queue: `changed NAME`, `recheck NAME`, `lost NAME…` (the supervised
/// ones), `ask` and `ask-all` with the bytes that the kernel has still to tell, `drained BYTES` or
/// `drained all`, `begin`, `read NAME…`, `end`, `fail`. What follows the arrow is the scope that
/// begins, or the names that are looked at.
fn check(queue: &mut ScanQueue, table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once("=>").map_or((line, ""), |(left, right)| (left, right.trim()));
        let words: Vec<&str> = left.split_ascii_whitespace().collect();
        let scope = play(queue, &words);
        let looked_at =
            std::iter::from_fn(|| queue.pop()).map(|name| String::from_utf8(name).expect("well formed"));
        let said: Vec<String> = scope.into_iter().chain(looked_at).collect();
        assert_eq!(said.join(" "), expected, "in `{line}`");
    }
}

fn play(queue: &mut ScanQueue, words: &[&str]) -> Option<String> {
    match words {
        ["changed", entry] => queue.changed(name(entry)),
        ["recheck", entry] => queue.recheck(&name(entry)),
        ["lost", supervised @ ..] => queue.lost_count(supervised.iter().map(name).collect()),
        ["verify"] => {
            let names = queue.next_unverified();
            return Some(
                names.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join(" "),
            );
        }
        ["ask", unread] => queue.request(ScanScope::Changes, || unread.parse().expect("well formed")),
        ["ask-all", unread] => queue.request(ScanScope::Whole, || unread.parse().expect("well formed")),
        ["drained", "all"] => queue.drained(0, true),
        ["drained", bytes] => queue.drained(bytes.parse().expect("well formed"), false),
        ["begin"] => {
            let scope = queue.begin(|| 0);
            match scope {
                Some(ScanScope::Changes) => assert_eq!(queue.line_up_changes(), LinedUp::All),
                Some(ScanScope::Whole) => assert_eq!(queue.begin_reading(Vec::new()), LinedUp::All),
                None => {}
            }
            return Some(
                scope
                    .map_or("waits", |scope| if scope == ScanScope::Whole { "whole:" } else { "changes:" })
                    .to_owned(),
            );
        }
        ["read", entries @ ..] => {
            assert!(queue.wants_more());
            entries.iter().map(name).for_each(|name| queue.line_up_read(name));
        }
        ["end"] => queue.reading_ended(true),
        ["fail"] => queue.reading_ended(false),
        _ => panic!("`{words:?}` means nothing"),
    }
    None
}

#[test]
fn the_first_scan_reads_everything_and_later_ones_look_at_what_changed() {
    let mut queue = ScanQueue::new(true);
    check(
        &mut queue,
        "
        ask 0     =>
        begin     => whole:
        read a b  => a b
        end       =>
        changed c =>
        ask 0     =>
        begin     => changes: c
        ask 0     =>
        begin     => changes:
        ",
    );
}

#[test]
fn a_scan_waits_until_what_changed_before_it_was_taken_in() {
    check(
        &mut settled(),
        "
        ask 100    =>
        begin      => waits
        drained 64 =>
        begin      => waits
        changed a  =>
        drained 64 =>
        begin      => changes: a
        ask 100    =>
        drained all =>
        begin      => changes:
        ",
    );
}

#[test]
fn links_and_refused_entries_are_looked_at_by_each_scan_that_still_asks_for_them() {
    check(
        &mut settled(),
        "
        recheck link =>
        changed a    =>
        ask 0        =>
        begin        => changes: a link
        ask 0        =>
        begin        => changes:
        ",
    );
}

#[test]
fn what_changes_while_the_directory_is_read_does_not_wait_for_the_end_of_that() {
    check(
        &mut settled(),
        "
        ask-all 0 =>
        begin     => whole:
        read a    => a
        changed n =>
        ask-all 0 =>
        begin     => changes: n
        begin     => waits
        read b    => b
        end       =>
        begin     => whole:
        ",
    );
}

#[test]
fn whoever_asks_for_scans_without_a_pause_does_not_keep_the_directory_from_being_read() {
    const LINKS: usize = 600;
    let mut queue = settled();
    queue.request(ScanScope::Whole, || 0);
    assert_eq!(queue.begin(|| 0), Some(ScanScope::Whole));
    assert_eq!(queue.begin_reading((0..LINKS).map(name).collect()), LinedUp::All);
    let mut unread: Vec<EntryName> = (0..2 * LINKS).map(|n| name(format!("entry {n}"))).collect();
    // In each iteration somebody asks, and eight names are looked at, which are mostly links.
    for iteration in 1.. {
        assert!(iteration < LINKS, "{} entries were never read", unread.len());
        queue.request(ScanScope::Changes, || 0);
        if queue.begin(|| 0) == Some(ScanScope::Changes) {
            assert_eq!(queue.line_up_changes(), LinedUp::All);
        }
        if queue.wants_more() {
            let rest = unread.split_off(unread.len().min(30));
            for name in std::mem::replace(&mut unread, rest) {
                queue.line_up_read(name);
            }
        }
        let names: Vec<EntryName> = std::iter::from_fn(|| queue.pop()).take(8).collect();
        for name in names.iter().filter(|name| !name.starts_with(b"entry")) {
            queue.recheck(name);
        }
        if unread.is_empty() && !names.iter().any(|name| name.starts_with(b"entry")) {
            break;
        }
    }
}

#[test]
fn of_several_requests_the_widest_one_counts() {
    check(
        &mut settled(),
        "
        ask 0     =>
        ask-all 0 =>
        ask 0     =>
        begin     => changes:
        begin     => whole:
        end       =>
        begin     => waits
        ",
    );
}

#[test]
fn lost_changes_have_everything_read_again_and_what_is_supervised_verified() {
    check(
        &mut settled(),
        "
        lost a b  =>
        verify    => a b
        ask 0     =>
        begin     => whole:
        fail      =>
        ask 0     =>
        begin     => whole:
        ",
    );
}

#[test]
fn without_a_watch_each_scan_reads_the_whole_directory() {
    let mut queue = ScanQueue::new(false);
    for _ in 0..3 {
        check(&mut queue, "ask 0 => \n begin => whole: \n end => ");
    }
}

#[test]
fn more_changes_than_are_remembered_are_found_by_reading_the_directory() {
    let mut queue = settled();
    (0..=MAX_CHANGED).for_each(|n| queue.changed(name(n)));
    check(&mut queue, "ask 0 => \n begin => whole:");
}

#[test]
#[cfg_attr(miri, ignore = "the quantity takes Miri hours, and the crate has no unsafe code")]
fn more_names_to_recheck_than_are_remembered_are_found_by_reading_the_directory() {
    let mut queue = settled();
    let count = MAX_RECHECK_BYTES / NAME_OVERHEAD;
    (0..4 * count).for_each(|n| queue.recheck(&name(n)));
    assert_eq!(queue.line_up_recheck(), LinedUp::All);
    assert!(queue.in_line() < count, "{}", queue.in_line());
    let _ = std::iter::from_fn(|| queue.pop()).count();
    check(&mut queue, "ask 0 => \n begin => whole:");
}

#[test]
#[cfg_attr(miri, ignore = "the quantity takes Miri hours, and the crate has no unsafe code")]
fn more_names_than_anybody_needs_are_left_for_a_later_scan_and_that_is_said_once() {
    let mut queue = settled();
    assert_eq!(queue.line_up((0..MAX_PENDING).map(name)), LinedUp::All);
    assert_eq!(queue.line_up([name("more")]), LinedUp::TooMany);
    assert_eq!(queue.line_up([name("even more")]), LinedUp::All);
    assert_eq!(queue.in_line(), MAX_PENDING);
    // What is read from the directory has its own room, and its turn.
    queue.line_up_read(name("read"));
    assert!([queue.pop(), queue.pop()].contains(&Some(name("read"))));
    queue.stop();
    assert!(!queue.is_busy());
}

#[test]
#[cfg_attr(miri, ignore = "the quantity takes Miri hours, and the crate has no unsafe code")]
fn a_late_entry_is_looked_at_after_the_earlier_ones_whatever_their_names_are() {
    let mut queue = settled();
    let late = (0..20_000).flat_map(|n| [name(format!("a{n}")), name("a0")]);
    assert_eq!(queue.line_up(std::iter::once(name("web")).chain(late)), LinedUp::All);
    assert_eq!(queue.pop(), Some(name("web")));
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 20_000);
}

#[test]
fn entries_that_lacked_descriptors_are_looked_at_again_when_no_process_is_starting() {
    let mut queue = settled();
    queue.recheck(b"other");
    assert_eq!(queue.descriptors_are_back(), LinedUp::All);
    assert_eq!(queue.pop(), None, "nothing lacked any");
    queue.lacked_descriptors();
    assert_eq!(queue.descriptors_are_back(), LinedUp::All);
    assert_eq!(queue.pop(), Some(name("other")));
}
