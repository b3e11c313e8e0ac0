//! The log daemon under everything that may happen to it at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use gatevisor_logreader::{Clock, Directory, Pick, ReadOptions, ReaderEvent, run};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::processes::Held;
use crate::support::service::Service;
use crate::support::{World, need_root, waiting};

const WRITERS: usize = 50;
const KILLS: usize = 100;
/// The number of writers whose lines go to a small disk.
const ON_THE_SMALL_DISK: usize = 5;

/// Writes numbers until the gate opens, and then their count.
const COUNTS: &str = "
n=0
while [ ! -e ../../stop ]; do
    echo \"$n a line of a service that says what it does\"
    n=$((n + 1))
done
echo \"end $n\"
echo $n > total.new
mv total.new total
exec sleep 3600";

/// A file system of a few megabytes, which ends with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount("none", &path, "tmpfs", MountFlags::empty(), Some(c"size=96m")).unwrap();
        Self(path)
    }

    /// Fills all the free space.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        let block = vec![0; 1 << 16];
        while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Returns the process of the log daemon, if there is one that has executed its program.
fn log_daemon(world: &World) -> Option<i32> {
    world.processes().into_iter().find(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(b"logd")
    })
}

/// Returns the number that a line begins with, after its stamp.
fn number(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).unwrap();
    let text = line.split_once("  ").map_or(line, |(_, text)| text);
    text.split_once(' ')?.0.parse().ok()
}

fn is_end(line: &[u8]) -> bool {
    String::from_utf8_lossy(line).contains("  end ")
}

fn directory(path: &Path) -> Directory {
    Directory { label: String::new(), path: path.to_owned(), clock: Clock::Utc }
}

/// Follows a log from its first line to the end that its service announces. Returns the number of
/// lines.
fn follow(path: PathBuf) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let options =
            ReadOptions { dirs: vec![directory(&path)], pick: Pick::default(), lines: None, follow: true };
        let mut next = 0;
        run(&options, &mut |event| {
            let ReaderEvent::Line(line) = event else { return ControlFlow::Continue(()) };
            if is_end(line.bytes) {
                return ControlFlow::Break(());
            }
            assert_eq!(number(line.bytes), Some(next), "a follower sees each line once");
            next += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        next
    })
}

/// Returns the number of lines in a log directory. Each must be there once and in its order.
fn count(path: &Path) -> u64 {
    let options =
        ReadOptions { dirs: vec![directory(path)], pick: Pick::default(), lines: None, follow: false };
    let mut next = 0;
    run(&options, &mut |event| {
        match event {
            ReaderEvent::Line(line) if is_end(line.bytes) => {}
            ReaderEvent::Line(line) => {
                assert_eq!(number(line.bytes), Some(next), "{}", path.display());
                next += 1;
            }
            ReaderEvent::Damaged { archive, why, .. } => panic!("{archive}: {why}"),
            ReaderEvent::Idle => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    next
}

/// Checks the supervisor's output: the lines of each service are in order, none comes twice, and
/// every gap is announced.
fn check_shown(said: &str, totals: &BTreeMap<String, u64>) {
    // The next expected line of each service, and the number of lines that were announced to be
    // missing before it.
    let mut shown: BTreeMap<&str, (u64, u64)> = totals.keys().map(|name| (name.as_str(), (0, 0))).collect();
    for line in said.lines() {
        if let Some((label, text)) = line.split_once(" | ")
            && let Some((next, announced)) = shown.get_mut(label)
        {
            let Some(number) = text.split_once(' ').and_then(|(number, _)| number.parse::<u64>().ok()) else {
                continue;
            };
            assert!(number >= *next, "{label}: {number} is shown after {}", *next);
            assert!(number - *next <= *announced, "{label}: from {next} to {number}, {announced} announced");
            (*next, *announced) = (number + 1, 0);
        } else if let Some(gap) = line.strip_prefix("[gatevisor: ").filter(|gap| gap.contains(" not shown: "))
        {
            let words: Vec<&str> = gap.trim_start_matches("up to ").split(' ').collect();
            let (_, announced) = shown.get_mut(words[3]).expect("the label of a service");
            *announced += words[0].parse::<u64>().unwrap();
        }
    }
    for (label, (next, announced)) in shown {
        let missing = totals[label] - next;
        assert!(missing <= announced, "{label}: the last {missing} lines are missing, {announced} announced");
    }
}

#[test]
fn no_line_is_lost_or_doubled_with_a_killed_daemon_and_a_full_disk_and_followers() {
    need_root();
    let mut world = World::new();
    let disk = SmallDisk::new(world.root().join("disk"));
    let on_a_large_disk = world.root().join("logs");
    let logs = |n: usize| {
        let root = if n < ON_THE_SMALL_DISK { &disk.0 } else { &on_a_large_disk };
        root.join(format!("s{n}"))
    };
    world.start();
    let services: Vec<Service> = (0..WRITERS)
        .map(|n| {
            let run = format!(
                "#!{} log\ndirectory = \"{}\"\nsize = 65536\nkeep = 1000000\n",
                env!("CARGO_BIN_EXE_gatevisor"),
                logs(n).display()
            );
            let place = |path: &Path| {
                fs::create_dir(path.join("log")).unwrap();
                crate::support::executable(&path.join("log/run"), &run);
            };
            world.service(format!("s{n}")).run(COUNTS).prepare(place).place_without_subscriber()
        })
        .collect();
    world.rescan();
    let followers: Vec<(usize, JoinHandle<u64>)> = [0, 7, 49]
        .into_iter()
        .map(|n| {
            waiting::polled("the log of a follower", || logs(n).join("current").exists().then_some(()));
            (n, follow(logs(n)))
        })
        .collect();
    for kill in 0..KILLS {
        let pid = waiting::polled("a log daemon", || log_daemon(&world));
        let held = Held::of(pid).expect("the daemon that was just seen");
        // Half of them are killed while they begin, and half while they write. On a small disk that
        // is full, nothing grows.
        if kill % 2 == 1 {
            let size = || fs::metadata(logs(WRITERS - 1).join("current")).map_or(0, |current| current.len());
            let before = size();
            waiting::polled("a line that it writes", || (size() != before).then_some(()));
        }
        if kill == KILLS / 4 {
            disk.fill();
        }
        if kill == KILLS / 2 {
            let log_error = services[0].path("log/error");
            waiting::polled("a note of the full disk", || log_error.exists().then_some(()));
            disk.empty();
        }
        held.kill();
        held.until_gone("the log daemon");
    }
    fs::write(world.root().join("stop"), "").unwrap();
    let mut totals = BTreeMap::new();
    for (n, service) in services.iter().enumerate() {
        let total = service.until_file("total", "the last line", |_| true);
        totals.insert(format!("s{n}"), total.trim().parse().unwrap());
    }
    for (n, follower) in followers {
        assert_eq!(follower.join().unwrap(), totals[&format!("s{n}")], "what a follower of s{n} saw");
    }
    assert!(world.stop().success());
    for n in 0..WRITERS {
        assert_eq!(count(&logs(n)), totals[&format!("s{n}")], "s{n}");
    }
    check_shown(&world.said(), &totals);
}
