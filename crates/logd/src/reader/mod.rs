//! Reading logs back: the last lines of one or several directories, and those that come.
//!
//! *Lives here:* what `gatevisor logs` needs, over any directory that s6-log or we write; an ordinary reader, which
//! takes no lock and needs no writer. *Does not live here:* colours, labels on a terminal, choosing directories.
//!
//! Lines that were written are ordered by their stamps; lines that come are given as they come. A line is given once
//! it is whole. Following waits for the kernel's events, and never looks by the clock.

mod lines;
mod order;
mod source;
mod watch;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use order::Key;
use source::Source;
use watch::{Wake, Watcher};

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directories, each with the label that its lines are given with.
    pub dirs: Vec<(String, PathBuf)>,
    /// How many of the last lines of each directory; `None` means all.
    pub lines: Option<usize>,
    /// Go on with the lines that come, and wait for directories that do not exist yet.
    pub follow: bool,
}

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A directory, or a file in it, refuses.
    #[error("cannot read the log directory `{}` of {label}", path.display())]
    Read {
        /// Whose it is.
        label: String,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not tell what changes.
    #[error("cannot follow changes of the log directories")]
    Watch(#[source] std::io::Error),
}

/// Takes a label and a line without its newline, and says whether to go on.
pub type OnLine<'a> = dyn FnMut(&str, &[u8]) -> ControlFlow<()> + 'a;

/// Gives the last lines of the directories to `on_line` and, when following, those that come.
///
/// A directory that does not exist has no lines. Lines above 1 MiB are given in pieces. Returns when there are no
/// more lines, or when `on_line` breaks.
pub fn run(options: &Options, on_line: &mut OnLine<'_>) -> Result<(), ReadError> {
    run_until(options, None, on_line)
}

/// Does what [`run`] does, and when following also returns once `stop` is broken or hung up.
///
/// Standard output is a useful `stop`: a reader that has gone away is noticed although no line comes.
pub fn run_until(
    options: &Options,
    stop: Option<BorrowedFd<'_>>,
    on_line: &mut OnLine<'_>,
) -> Result<(), ReadError> {
    let mut sources: Vec<Source> =
        options.dirs.iter().map(|(label, path)| Source::new(label.clone(), path.clone())).collect();
    let mut watcher = None;
    if options.follow {
        // Watched before they are read, so that nothing falls between reading and following.
        let mut new = Watcher::new().map_err(watch_error)?;
        for (index, source) in sources.iter().enumerate() {
            new.attach(index, source.path()).map_err(watch_error)?;
        }
        watcher = Some(new);
    }
    for source in &mut sources {
        source.begin(options.lines, options.follow).map_err(|errno| source.error(errno))?;
    }
    if give_tail(&mut sources, on_line)?.is_break() {
        return Ok(());
    }
    match watcher {
        Some(watcher) => follow(&mut sources, watcher, stop, on_line),
        None => Ok(()),
    }
}

/// Gives what is there, by stamp over all directories, and in its own order within each.
fn give_tail(sources: &mut [Source], on_line: &mut OnLine<'_>) -> Result<ControlFlow<()>, ReadError> {
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (index, source) in sources.iter_mut().enumerate() {
        advance(index, source, Key::FIRST, &mut heads)?;
    }
    while let Some(Reverse((key, index))) = heads.pop() {
        let Some(source) = sources.get_mut(index) else { continue };
        if on_line(source.label(), source.line()).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        advance(index, source, key, &mut heads)?;
    }
    Ok(ControlFlow::Continue(()))
}

type Heads = BinaryHeap<Reverse<(Key, usize)>>;

fn advance(index: usize, source: &mut Source, before: Key, heads: &mut Heads) -> Result<(), ReadError> {
    if source.next_line().map_err(|errno| source.error(errno))? {
        // A line without a stamp belongs to the one before; a clock that was set back reorders nothing.
        let key = Key::of(source.line()).map_or(before, |key| key.max(before));
        heads.push(Reverse((key, index)));
    }
    Ok(())
}

fn follow(
    sources: &mut [Source],
    mut watcher: Watcher,
    stop: Option<BorrowedFd<'_>>,
    on_line: &mut OnLine<'_>,
) -> Result<(), ReadError> {
    // What happened between watching and now is in the events; no directory needs a look without one, except those
    // that appeared before their watch did.
    let mut changed: Vec<usize> = (0..sources.len()).collect();
    loop {
        for &index in &changed {
            let Some(source) = sources.get_mut(index) else { continue };
            if give_new(source, on_line)?.is_break() {
                return Ok(());
            }
        }
        changed.clear();
        match watcher.wait(stop).map_err(watch_error)? {
            Wake::Stopped => return Ok(()),
            Wake::Changed => {}
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

fn give_new(source: &mut Source, on_line: &mut OnLine<'_>) -> Result<ControlFlow<()>, ReadError> {
    loop {
        while source.next_line().map_err(|errno| source.error(errno))? {
            if on_line(source.label(), source.line()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !source.look_for_more().map_err(|errno| source.error(errno))? {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

fn watch_error(errno: Errno) -> ReadError {
    ReadError::Watch(errno.into())
}
