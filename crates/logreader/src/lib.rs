//! Reads logs back: the last lines of one or several directories, and new ones.
//!
//! *Lives here:* the work behind `gatevisor logs`, for any directory that s6-log or we write. It is
//! an ordinary reader, which takes no lock and needs no writer.
//!
//! *Does not live here:* colours, labels on a terminal, choosing directories, and writing logs
//! (`gatevisor-logd`).
//!
//! *May depend on it:* the binary. It needs no crate that writes logs.
//!
//! Existing lines are ordered by their stamps; new lines are given in the order of their arrival. A
//! line is given once it is complete. Following waits for the kernel's events, and never polls by
//! the clock. No file is loaded into memory as a whole, however large it is.
#![forbid(unsafe_code)]

mod entry;
mod holes;
mod input;
mod lines;
mod names;
mod options;
mod pick;
mod source;
mod tail;
mod watch;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use source::DirectoryReader;
use watch::{DirectoryWatcher, FollowWake};

pub use entry::{Clock, LineParts, OutputName, Time};
pub use options::{Directory, LogReadError, ReadOptions};
pub use pick::Pick;

/// What a service wrote up to a newline, as the log has it.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// The index of its directory in the options.
    pub index: usize,
    /// What the options call its directory.
    pub label: &'a str,
    /// The whole line as it is in the file, without its newline.
    pub bytes: &'a [u8],
    /// Where its time and its text are in it.
    pub entry: LineParts,
}

impl<'a> LogLine<'a> {
    /// Returns its stamp and its mark.
    pub fn head(&self) -> &'a [u8] {
        self.bytes.get(..self.entry.text).unwrap_or_default()
    }

    /// Returns the text that the service wrote.
    pub fn text(&self) -> &'a [u8] {
        self.bytes.get(self.entry.text..).unwrap_or_default()
    }
}

/// The output of a reader.
#[derive(Debug, Clone, Copy)]
pub enum ReaderEvent<'a> {
    /// The next one to show.
    Line(LogLine<'a>),
    /// A compressed archive cannot be read completely; later files can.
    Damaged {
        /// What the options call its directory.
        label: &'a str,
        /// The archive's name, or nothing if it is not known.
        archive: &'a str,
        /// What is wrong with it, for people.
        why: &'a str,
    },
    /// There is nothing more for now, so collected lines may be shown.
    Idle,
}

/// Receives the output of a reader, and tells whether to go on.
pub type OnEvent<'a> = dyn FnMut(ReaderEvent<'_>) -> ControlFlow<()> + 'a;

/// Passes the last lines of the directories to `on_event`, and when following, new lines.
///
/// A directory that does not exist has no lines. Lines longer than 1 MiB are given in pieces.
/// Returns when there are no more lines, or when `on_event` breaks.
pub fn run(options: &ReadOptions, on_event: &mut OnEvent<'_>) -> Result<(), LogReadError> {
    run_until(options, None, on_event)
}

/// Does the same as [`run`], and when following also returns once `stop` is broken or hung up.
///
/// Standard output is a useful `stop`: a reader that has gone away is noticed even if no line
/// comes.
pub fn run_until(
    options: &ReadOptions,
    stop: Option<BorrowedFd<'_>>,
    on_event: &mut OnEvent<'_>,
) -> Result<(), LogReadError> {
    let mut sources: Vec<DirectoryReader> =
        options.dirs.iter().map(|directory| DirectoryReader::new(directory, options.pick.clone())).collect();
    let mut watcher = None;
    if options.follow {
        // The directories are watched before they are read, so that no change falls between reading
        // and following.
        let mut new = DirectoryWatcher::new().map_err(watch_error)?;
        for (index, source) in sources.iter().enumerate() {
            new.attach(index, source.path()).map_err(watch_error)?;
        }
        watcher = Some(new);
    }
    for source in &mut sources {
        source.begin(options.lines, options.follow).map_err(|errno| source.error(errno))?;
    }
    if give_tail(&mut sources, on_event)?.is_break() {
        return Ok(());
    }
    match watcher {
        Some(watcher) => follow(&mut sources, watcher, stop, on_event),
        None => Ok(()),
    }
}

/// Gives the existing lines, by stamp over all directories, and in their own order within each.
fn give_tail(
    sources: &mut [DirectoryReader],
    on_event: &mut OnEvent<'_>,
) -> Result<ControlFlow<()>, LogReadError> {
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (index, source) in sources.iter_mut().enumerate() {
        if advance(index, source, Time::FIRST, &mut heads, on_event)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    while let Some(Reverse((time, index))) = heads.pop() {
        let Some(source) = sources.get_mut(index) else { continue };
        if give(index, source, on_event).is_break()
            || advance(index, source, time, &mut heads, on_event)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(on_event(ReaderEvent::Idle))
}

type Heads = BinaryHeap<Reverse<(Time, usize)>>;

fn advance(
    index: usize,
    source: &mut DirectoryReader,
    before: Time,
    heads: &mut Heads,
    on_event: &mut OnEvent<'_>,
) -> Result<ControlFlow<()>, LogReadError> {
    let is_there = source.next_line().map_err(|errno| source.error(errno))?;
    if is_there {
        // A line without a stamp belongs to the one before. A clock that was set back changes no
        // order.
        let time = source.entry().time.map_or(before, |time| time.max(before));
        heads.push(Reverse((time, index)));
    }
    Ok(give_damaged(source, on_event))
}

fn give(index: usize, source: &DirectoryReader, on_event: &mut OnEvent<'_>) -> ControlFlow<()> {
    let line = LogLine { index, label: source.label(), bytes: source.line(), entry: source.entry() };
    on_event(ReaderEvent::Line(line))
}

fn give_damaged(source: &mut DirectoryReader, on_event: &mut OnEvent<'_>) -> ControlFlow<()> {
    for (archive, why) in source.take_damaged() {
        on_event(ReaderEvent::Damaged { label: source.label(), archive: &archive, why: &why })?;
    }
    ControlFlow::Continue(())
}

fn follow(
    sources: &mut [DirectoryReader],
    mut watcher: DirectoryWatcher,
    stop: Option<BorrowedFd<'_>>,
    on_event: &mut OnEvent<'_>,
) -> Result<(), LogReadError> {
    // Changes between watching and now are in the events. Only directories that appeared before
    // their watch need a look without an event.
    let mut changed: Vec<usize> = (0..sources.len()).collect();
    loop {
        for &index in &changed {
            let Some(source) = sources.get_mut(index) else { continue };
            if give_new(index, source, on_event)?.is_break() {
                return Ok(());
            }
        }
        changed.clear();
        if on_event(ReaderEvent::Idle).is_break() {
            return Ok(());
        }
        match watcher.wait(stop).map_err(watch_error)? {
            FollowWake::Stopped => return Ok(()),
            FollowWake::Changed => {}
        }
        for change in watcher.changes().map_err(watch_error)? {
            if change.lost
                && let Some(source) = sources.get(change.index)
            {
                watcher.attach(change.index, source.path()).map_err(watch_error)?;
            }
            changed.push(change.index);
        }
    }
}

fn give_new(
    index: usize,
    source: &mut DirectoryReader,
    on_event: &mut OnEvent<'_>,
) -> Result<ControlFlow<()>, LogReadError> {
    loop {
        while source.next_line().map_err(|errno| source.error(errno))? {
            if give(index, source, on_event).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if give_damaged(source, on_event).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if !source.look_for_more().map_err(|errno| source.error(errno))? {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

fn watch_error(errno: Errno) -> LogReadError {
    LogReadError::Watch(errno.into())
}
