//! The file in the home that keeps what the timeline tells and no other record has: events and
//! actions, a JSON object a line.
//!
//! *Lives here:* reading and writing it, and its bounds. A line that is damaged is left out, and
//! the file is written anew as soon as there is something to keep.
//! *Does not live here:* who writes (`history`), and what is told (`timeline`).

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use gatevisor_gateways::files::{random_suffix, read_opened};
use gatevisor_sys::file;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, write};
use serde_json::Value;

/// The name of the file.
pub const FILE: &str = "events";
/// The most events that are kept. The oldest go first.
const MOST: usize = 500;
/// The most bytes of an event. A longer one is not kept.
const LINE_BYTES: usize = 2000;
/// The most bytes of the file. Events are added to it, up to twice as many as are kept.
const FILE_BYTES: usize = 2 * MOST * (LINE_BYTES + 1);

/// The events of this server and of those before it.
#[derive(Debug, Default)]
pub struct KeptEvents {
    /// The oldest first.
    lines: VecDeque<String>,
    /// How many lines the file has; `None` if it must be written anew.
    in_file: Option<usize>,
}

impl KeptEvents {
    /// Returns what a directory keeps, and what is wrong with that.
    pub fn read(directory: BorrowedFd<'_>) -> (Self, Option<String>) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let bytes = match file::open_own(directory, FILE, flags) {
            Ok(opened) => read_opened(opened, FILE_BYTES).map_err(|error| error.to_string()),
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(errno) => Err(errno.to_string()),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(why) => return (Self::default(), Some(format!("they cannot be used: {why}"))),
        };
        let mut kept = Self::default();
        let mut damaged = 0_usize;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match str::from_utf8(line).ok().filter(|line| is_event(line)) {
                Some(line) => kept.push(line),
                None => damaged = damaged.saturating_add(1),
            }
        }
        (kept, (damaged > 0).then(|| format!("{damaged} of them are damaged and left out")))
    }

    /// Returns the events, the oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// Puts what another server has kept before what only this one knows.
    pub fn join(&mut self, other: Self) {
        let own = std::mem::replace(self, other);
        for line in own.lines {
            if !self.lines.contains(&line) {
                self.push(&line);
                self.in_file = None;
            }
        }
    }

    fn push(&mut self, line: &str) {
        if self.lines.len() == MOST {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Keeps an event for this server, and for later ones if this one `writes`. Of an event that
    /// is no line of text, or too long, nothing is kept.
    ///
    /// # Errors
    /// The file cannot be written. The next event is another attempt.
    pub fn add(&mut self, directory: BorrowedFd<'_>, line: &str, writes: bool) -> Result<(), Errno> {
        if !is_event(line) {
            return Ok(());
        }
        self.push(line);
        let room = self.in_file.filter(|lines| writes && *lines < 2 * MOST);
        self.in_file = None;
        if let Some(lines) = room {
            append(directory, line)?;
            self.in_file = Some(lines.saturating_add(1));
        } else if writes {
            let text: String = self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let temporary = format!(".new-{}", random_suffix());
            file::replace(directory, FILE, &temporary, text.as_bytes(), Mode::RUSR | Mode::WUSR)?;
            self.in_file = Some(self.lines.len());
        }
        Ok(())
    }
}

fn is_event(line: &str) -> bool {
    line.len() <= LINE_BYTES
        && !line.contains('\n')
        && serde_json::from_str::<Value>(line).is_ok_and(|event| event.is_object())
}

/// Adds a line in one write, so that a reader never finds a part of it.
fn append(directory: BorrowedFd<'_>, line: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = file::open_own(directory, FILE, flags)?;
    let bytes = format!("{line}\n").into_bytes();
    let written = write(&opened, &bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(Errno::NOSPC) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use gatevisor_gateways::files::open_directory;
    use tempfile::TempDir;

    use super::*;

    fn event(number: usize) -> String {
        format!("{{\"n\":{number}}}")
    }

    fn events(numbers: impl Iterator<Item = usize>) -> Vec<String> {
        numbers.map(event).collect()
    }

    #[test]
    fn the_latest_events_survive_their_server_and_the_file_is_bounded() {
        let home = TempDir::new().unwrap();
        let directory = open_directory(home.path()).unwrap();
        let file = home.path().join(FILE);
        let (mut first, said) = KeptEvents::read(directory.as_fd());
        assert!(said.is_none() && first.lines().is_empty());
        for number in 0..3 * MOST {
            first.add(directory.as_fd(), &event(number), true).unwrap();
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 2 * MOST, "{lines}");
        }
        let (again, said) = KeptEvents::read(directory.as_fd());
        assert_eq!((again.lines(), said), (events(2 * MOST..3 * MOST), None));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_server_that_does_not_write_remembers_and_writes_all_once_it_may() {
        let home = TempDir::new().unwrap();
        let directory = open_directory(home.path()).unwrap();
        let mut kept = KeptEvents::default();
        for (number, writes) in [(1, false), (2, false), (3, true), (4, true), (5, false), (6, true)] {
            kept.add(directory.as_fd(), &event(number), writes).unwrap();
            let in_file = KeptEvents::read(directory.as_fd()).0.lines();
            let expected = if writes { events(1..=number) } else { events(1..number) };
            assert_eq!(kept.lines(), events(1..=number));
            assert!(in_file == expected || (number < 3 && in_file.is_empty()), "{number}: {in_file:?}");
        }
    }

    #[test]
    fn a_server_that_takes_over_keeps_what_the_former_one_has_kept() {
        let home = TempDir::new().unwrap();
        let directory = open_directory(home.path()).unwrap();
        let (mut first, mut second) = (KeptEvents::default(), KeptEvents::default());
        first.add(directory.as_fd(), &event(1), true).unwrap();
        first.add(directory.as_fd(), &event(2), true).unwrap();
        second.add(directory.as_fd(), &event(2), false).unwrap();
        second.add(directory.as_fd(), &event(3), false).unwrap();
        second.join(KeptEvents::read(directory.as_fd()).0);
        assert_eq!(second.lines(), events(1..4));
        second.add(directory.as_fd(), &event(4), true).unwrap();
        assert_eq!(KeptEvents::read(directory.as_fd()).0.lines(), events(1..5));
    }

    #[test]
    fn what_is_damaged_is_left_out_and_what_is_no_such_file_is_replaced() {
        let home = TempDir::new().unwrap();
        let directory = open_directory(home.path()).unwrap();
        let file = home.path().join(FILE);
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        let long = format!("{{\"n\":\"{}\"}}", "a".repeat(LINE_BYTES));
        let put = |bytes: &[u8]| fs::write(&file, bytes).unwrap();
        for (case, lines, told) in [
            (0, events(1..3), Some("2 of them")),
            (1, Vec::new(), Some("1 of them")),
            (2, Vec::new(), Some("cannot be used")),
            (3, Vec::new(), Some("cannot be used")),
        ] {
            match case {
                0 => put(format!("{}\n7\n\n{}\n{{\"n\":", event(1), event(2)).as_bytes()),
                1 => put(format!("\u{0}{long}").as_bytes()),
                2 => put(&vec![b'a'; FILE_BYTES + 1]),
                _ => {
                    fs::remove_file(&file).unwrap();
                    symlink(&elsewhere, &file).unwrap();
                }
            }
            let (mut kept, said) = KeptEvents::read(directory.as_fd());
            assert_eq!(kept.lines(), lines, "{case}");
            assert!(said.unwrap_or_default().contains(told.unwrap()), "{case}");
            kept.add(directory.as_fd(), &long, true).unwrap();
            kept.add(directory.as_fd(), &event(9), true).unwrap();
            let after = KeptEvents::read(directory.as_fd());
            let all: Vec<String> = lines.into_iter().chain([event(9)]).collect();
            assert_eq!((after.0.lines(), after.1), (all, None), "{case}");
        }
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    }
}
