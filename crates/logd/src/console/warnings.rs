//! The daemon's own messages on standard error.
//!
//! *Lives here:* a bounded queue and the thread that empties it. It is separate from that of
//! standard output, because a warning must not wait for a reader of lines.
//! *Does not live here:* the texts.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gatevisor_term::escape;

use super::write::write_all;

/// The most bytes of warnings that wait for standard error.
const WARNINGS: usize = 64 << 10;

/// The access to standard error.
#[derive(Debug)]
pub(crate) struct Warnings {
    shared: Arc<WarningState>,
}

#[derive(Debug, Default)]
struct WarningState {
    queue: Mutex<WarningQueue>,
    /// Signals a change to a waiting thread.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WarningQueue {
    lines: Vec<u8>,
    /// The number of warnings for which there was no room.
    left_out: u64,
    writing: bool,
    ending: bool,
}

impl WarningQueue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.left_out == 0
    }
}

impl WarningState {
    fn lock(&self) -> MutexGuard<'_, WarningQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warnings {
    /// Starts the thread that writes to `stderr`.
    pub fn start(stderr: OwnedFd) -> std::io::Result<Self> {
        let shared = Arc::new(WarningState::default());
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("warnings".to_owned())
            .stack_size(128 << 10)
            .spawn(move || work(&for_thread, &stderr))?;
        Ok(Self { shared })
    }

    /// Queues a message, as a line of its own.
    pub fn say(&self, line: &str) {
        let line = escape::line(line);
        let mut queue = self.shared.lock();
        // Messages after one that was left out are left out, too, so that the count is at the right
        // place.
        if queue.left_out > 0 || queue.lines.len().saturating_add(line.len()) >= WARNINGS {
            queue.left_out = queue.left_out.saturating_add(1);
        } else {
            queue.lines.extend_from_slice(line.as_bytes());
            queue.lines.push(b'\n');
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, until `deadline` at the latest; returns whether it is.
    pub fn flush(&self, deadline: Instant) -> bool {
        let mut queue = self.shared.lock();
        while queue.writing || !queue.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Warnings {
    fn drop(&mut self) {
        // The thread ends once it has written everything, which may be never. Nobody waits for it.
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
    }
}

fn work(shared: &WarningState, stderr: &OwnedFd) {
    let mut queue = shared.lock();
    loop {
        if !queue.is_empty() {
            let mut lines = std::mem::take(&mut queue.lines);
            let left_out = std::mem::take(&mut queue.left_out);
            queue.writing = true;
            drop(queue);
            if left_out > 0 {
                let s = if left_out == 1 { "" } else { "s" };
                let note =
                    format!("gatevisor: logd: {left_out} warning{s} not shown: standard error was stalled\n");
                lines.extend_from_slice(note.as_bytes());
            }
            // If this fails, there is nobody left to tell.
            let _ = write_all(stderr, &lines);
            queue = shared.lock();
            queue.writing = false;
            shared.changed.notify_all();
        } else if queue.ending {
            return;
        } else {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    #[test]
    fn warnings_for_which_there_is_no_room_are_counted_in_their_place() {
        let (read_end, stderr) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        // The pipe is full from the beginning, so the thread makes no progress.
        write_all(&stderr, &b"full...\n".repeat(8 << 10)).unwrap();
        let warnings = Warnings::start(stderr).unwrap();
        let total = 5000;
        for number in 0..total {
            warnings.say(&format!("{number:060}"));
        }
        assert!(!warnings.flush(Instant::now()));
        assert!(warnings.shared.lock().lines.len() <= WARNINGS);
        let mut lines =
            BufReader::new(std::fs::File::from(read_end)).lines().map(Result::unwrap).skip(8 << 10);
        // The thread may take bytes more than once before it is blocked, so there may be two gaps.
        let (mut next, mut gaps) = (0u64, 0);
        while next < total {
            let line = lines.next().unwrap();
            if let Ok(number) = line.parse::<u64>() {
                assert_eq!(number, next, "in order, none missing without a word");
                next += 1;
            } else {
                let count = line.strip_prefix("gatevisor: logd: ").unwrap().split(' ').next().unwrap();
                next += count.parse::<u64>().unwrap();
                assert!(line.ends_with(" not shown: standard error was stalled"), "{line}");
                gaps += 1;
            }
        }
        assert_eq!(next, total);
        assert!(gaps > 0);
        warnings.say("again");
        assert_eq!(lines.next().unwrap(), "again");
        assert!(warnings.flush(Instant::now() + Duration::from_secs(20)));
    }
}
