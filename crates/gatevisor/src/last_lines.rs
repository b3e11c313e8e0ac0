//! The last lines that a gateway printed, which explain most failures.
//!
//! *Lives here:* choosing the lines, and making them harmless to print.
//! *Does not live here:* finding and reading logs (`logs`, `gatevisor-logreader`).

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use gatevisor_gateways::incidents::LOG_LINES;
use gatevisor_gateways::inspect::LineSpan;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_logreader::{self as reader, Directory, Pick, ReadOptions, ReaderEvent};
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::policy;
use gatevisor_wire::tai::Tai64n;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use crate::context::CommandContext;
use crate::logs;

/// How many lines are shown.
const LINES: usize = 5;
/// The beginning of our interpreter's lines.
const OURS: &[u8] = b"gatevisor: ";
/// How long the log daemon may take to write the output of a gateway that has just ended.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// After this long without a write, everything counts as written, if there is anything.
const QUIET: Duration = Duration::from_millis(100);

/// The time between two checks whether the directory of a log exists.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Returns the last lines that a gateway wrote in a run. If its bounds are not known, there are
/// none, because they might be another run's.
pub fn of_run(context: &CommandContext, name: &ProfileName, run: Option<LineSpan>) -> Vec<String> {
    let Some(run) = run else { return Vec::new() };
    let directory = logs::directory(&context.manager, name);
    directory.map(|directory| last(directory, Some(run.since), run.until)).unwrap_or_default()
}

/// Returns the last lines that a gateway has printed since then, after its log daemon had time to
/// write them.
pub fn coming(context: &CommandContext, name: &ProfileName, since: SystemTime) -> Vec<String> {
    let Ok(directory) = logs::directory(&context.manager, name) else { return Vec::new() };
    // What is there already is nearly always all.
    let is_there = !last(directory.clone(), Some(since), None).is_empty();
    until_quiet(&directory.path, if is_there { QUIET } else { WRITTEN_WITHIN });
    last(directory, Some(since), None)
}

/// Writes the last lines of a gateway's log unchanged, for the investigation of an incident.
pub fn for_incident(manager: &ScandirManager, name: &ProfileName, out: &mut dyn Write) {
    let Ok(directory) = logs::directory(manager, name) else { return };
    let (pick, lines) = (Pick::default(), Some(LOG_LINES));
    let options = ReadOptions { dirs: vec![directory], pick, lines, follow: false };
    let _ = reader::run(&options, &mut |event| {
        let ReaderEvent::Line(line) = event else { return ControlFlow::Continue(()) };
        match out.write_all(line.bytes).and_then(|()| out.write_all(b"\n")) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
}

fn last(directory: Directory, since: Option<SystemTime>, until: Option<SystemTime>) -> Vec<String> {
    let [since, until] = [since, until].map(|bound| bound.map(|at| Tai64n::now_from(at).into()));
    let pick = Pick { since, until, ..Pick::default() };
    let options = ReadOptions { dirs: vec![directory], pick, lines: Some(LINES), follow: false };
    let mut lines = Vec::new();
    // A log that cannot be read is not worth a second failure.
    let _ = reader::run(&options, &mut |event| {
        // Our interpreter's line is the reason, which is shown anyway.
        if let ReaderEvent::Line(line) = event
            && !line.text().starts_with(OURS)
        {
            // The lines are short, and harmless to a terminal.
            lines.push(policy::one_line(&String::from_utf8_lossy(line.text())));
        }
        ControlFlow::Continue(())
    });
    lines
}

/// Waits until nothing is written in a directory any more, but not for long; `first` is how long to
/// wait for the first write.
fn until_quiet(directory: &Path, first: Duration) {
    let Some(end) = Instant::now().checked_add(WRITTEN_WITHIN) else { return };
    let Some(watch) = watch_by(directory, end) else { return };
    let mut wait = first;
    while poll_for(&watch, wait) {
        watch.drain();
        let left = end.saturating_duration_since(Instant::now());
        wait = if has_lines(directory) { QUIET.min(left) } else { left };
    }
}

/// Returns whether a log has a line. The log daemon makes its files before it writes the first one.
fn has_lines(directory: &Path) -> bool {
    let current = by_path::open(directory.join("current"), OFlags::PATH);
    current.and_then(fstat).is_ok_and(|file| file.st_size > 0)
}

/// Watches a directory as soon as it is there. The log daemon makes it at the first byte.
fn watch_by(directory: &Path, end: Instant) -> Option<Inotify> {
    loop {
        match watch(directory) {
            Ok(watch) => return Some(watch),
            Err(Errno::NOENT) if Instant::now() < end => {
                let _ = poll(&mut [], Timespec::try_from(LOOK_AGAIN).ok().as_ref());
            }
            Err(_) => return None,
        }
    }
}

fn watch(directory: &Path) -> rustix::io::Result<Inotify> {
    let watch = Inotify::new()?;
    by_path::watch(&watch, directory, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    Ok(watch)
}

fn poll_for(watch: &Inotify, time: Duration) -> bool {
    let time = Timespec::try_from(time).ok();
    time.is_none_or(|time| time != Timespec::default())
        && poll(&mut [PollFd::new(watch, PollFlags::IN)], time.as_ref()).is_ok_and(|ready| ready > 0)
}
