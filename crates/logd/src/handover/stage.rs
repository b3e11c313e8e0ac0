//! Bytes that have left their pipes and are not in a log file yet.
//!
//! *Lives here:* a file in memory into which bytes move directly from the pipes, and giving its
//! memory back.
//! *Does not live here:* their streams (`journal`), and their processing (`stream`).
//!
//! splice(2) moves bytes from a pipe to the end of a file in one step: the bytes have left the pipe
//! exactly if the file has grown by them, however abruptly the process is killed. That is the only
//! moment at which a byte could be lost or taken twice, so nothing else ever takes bytes from a
//! pipe. With read(2), the bytes would be lost with the memory that they were read into. It is used
//! only if there is no such file, or the file may not become long enough: bytes that a kill would
//! lose are better than a service that blocks.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, fallocate, fstat, ftruncate};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::pipe::{SpliceFlags, splice};

use super::segments::Segments;

/// After this many bytes, unneeded memory is given back.
const TIDY: u64 = 256 << 10;

/// The result of taking bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// This many bytes, at least one.
    Some(usize),
    /// Nothing, for now.
    Empty,
    /// No bytes, and none will come: no writer is left.
    End,
}

/// The bytes that have left the pipes and are not in the files yet.
#[derive(Debug)]
pub struct StagedBytes {
    file: Option<OwnedFd>,
    /// The bytes, if they are not in the file.
    segments: Option<Segments>,
    end: u64,
    /// The end at the time when memory was last given back.
    tidied: u64,
    /// A buffer for input that is not a pipe.
    buffer: Vec<u8>,
}

impl StagedBytes {
    /// Returns the stage in a memory file, with the bytes that a killed process left in it.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn new(file: OwnedFd) -> Result<Self, Errno> {
        let end = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        Ok(Self { file: Some(file), segments: None, end, tidied: 0, buffer: Vec::new() })
    }

    /// Returns a stage that ends with this process.
    pub fn private() -> Self {
        let file = gatevisor_sys::memory::file("gatevisor-stage").ok();
        let segments = file.is_none().then(Segments::default);
        Self { file, segments, end: 0, tidied: 0, buffer: Vec::new() }
    }

    /// Returns the place of the next byte.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Moves the bytes of a pipe to the end, at most `limit`.
    ///
    /// Input that is not a pipe is read; those bytes are lost if this process is killed within this
    /// call.
    ///
    /// # Errors
    /// Those of splice(2) and read(2), except that an empty pipe is no error.
    pub fn take(&mut self, pipe: impl AsFd, limit: usize) -> Result<Intake, Errno> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            let mut at = self.end;
            let taken = match (&self.file, &self.segments) {
                (Some(file), None) => match splice(&pipe, None, file, Some(&mut at), limit, flags) {
                    Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => self.read_in(&pipe, limit),
                    other => other,
                },
                _ => self.read_in(&pipe, limit),
            };
            return match taken {
                Ok(0) => Ok(Intake::End),
                Ok(n) => {
                    self.end = self.end.saturating_add(length(n));
                    Ok(Intake::Some(n))
                }
                Err(Errno::AGAIN) => Ok(Intake::Empty),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(errno),
            };
        }
    }

    fn read_in(&mut self, input: impl AsFd, limit: usize) -> Result<usize, Errno> {
        self.buffer.resize(limit, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let taken = read(input, &mut buffer[..]).and_then(|n| {
            self.put(buffer.get(..n).unwrap_or_default(), self.end)?;
            Ok(n)
        });
        self.buffer = buffer;
        taken
    }

    fn put(&mut self, bytes: &[u8], at: u64) -> Result<(), Errno> {
        match (&self.file, &mut self.segments) {
            (Some(file), None) => write_at(file, bytes, at),
            (_, segments) => {
                segments.get_or_insert_default().put(at, bytes.to_vec());
                Ok(())
            }
        }
    }

    /// Continues in this process's memory, with the bytes in these ranges, until the stage is
    /// empty.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn leave_file(&mut self, needed: &[Range<u64>]) -> Result<(), Errno> {
        let mut segments = Segments::default();
        for range in needed {
            let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)];
            self.read(range.start, &mut bytes)?;
            segments.put(range.start, bytes);
        }
        self.segments = Some(segments);
        Ok(())
    }

    /// Returns whether its bytes are only in this process's memory.
    pub const fn has_left_file(&self) -> bool {
        self.segments.is_some()
    }

    /// Moves bytes that are in the stage already to its end; returns their new place.
    ///
    /// # Errors
    /// Those of pread(2) and pwrite(2).
    pub fn move_to_end(&mut self, range: Range<u64>) -> Result<u64, Errno> {
        let begin = self.end;
        if range.end != begin {
            let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)];
            self.read(range.start, &mut bytes)?;
            self.put(&bytes, begin)?;
            self.end = begin.saturating_add(length(bytes.len()));
            return Ok(begin);
        }
        Ok(range.start)
    }

    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    /// Those of pread(2); `EIO` if there are fewer.
    pub fn read(&self, mut at: u64, mut buffer: &mut [u8]) -> Result<(), Errno> {
        let file = match (&self.file, &self.segments) {
            (_, Some(segments)) => return segments.read(at, buffer),
            (Some(file), None) => file,
            (None, None) => return if buffer.is_empty() { Ok(()) } else { Err(Errno::IO) },
        };
        while !buffer.is_empty() {
            match pread(file, &mut *buffer, at) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => {
                    at = at.saturating_add(length(n));
                    buffer = buffer.get_mut(n..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Returns whether it is worthwhile to give memory back.
    pub const fn is_untidy(&self) -> bool {
        self.end.saturating_sub(self.tidied) >= TIDY
    }

    /// Gives back the memory of everything but the ranges in `needed`, best effort.
    pub fn tidy(&mut self, mut needed: Vec<Range<u64>>) {
        needed.sort_unstable_by_key(|range| range.start);
        match (&self.file, &mut self.segments) {
            (Some(file), segments) if needed.is_empty() => {
                if ftruncate(file, 0).is_ok() {
                    self.end = 0;
                    *segments = None;
                }
            }
            (_, Some(segments)) => segments.keep_only(&needed),
            (Some(file), None) => punch(file, needed, self.end),
            (None, None) => {}
        }
        self.tidied = self.end;
    }
}

/// Gives back the memory of a file up to `end`, except for these ranges, which are in order.
fn punch(file: &OwnedFd, needed: Vec<Range<u64>>, end: u64) {
    let mut from = 0;
    for range in needed.into_iter().chain(std::iter::once(end..end)) {
        if range.start > from {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(file, hole, from, range.start.saturating_sub(from));
        }
        from = from.max(range.end);
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                at = at.saturating_add(length(n));
                bytes = bytes.get(n..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn length(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::write;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn text(stage: &StagedBytes, range: Range<u64>) -> String {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        stage.read(range.start, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn blocks(stage: &StagedBytes) -> u64 {
        u64::try_from(fstat(stage.file.as_ref().unwrap()).unwrap().st_blocks).unwrap()
    }

    #[test]
    fn the_bytes_of_pipes_are_taken_to_the_end_of_the_stage() {
        let mut stage = StagedBytes::private();
        let (one, to_one) = pipe();
        let (two, to_two) = pipe();
        assert_eq!(stage.take(&one, 100), Ok(Intake::Empty));
        write(&to_one, b"hello ").unwrap();
        write(&to_two, b"world, and more").unwrap();
        assert_eq!(stage.take(&one, 100), Ok(Intake::Some(6)));
        assert_eq!(stage.take(&two, 5), Ok(Intake::Some(5)));
        assert_eq!(text(&stage, 0..11), "hello world");
        drop(to_two);
        assert_eq!(stage.take(&two, 100), Ok(Intake::Some(10)));
        assert_eq!(stage.take(&two, 100), Ok(Intake::End));
        assert_eq!((stage.end(), text(&stage, 11..21)), (21, ", and more".to_owned()));
    }

    #[test]
    fn input_that_is_no_pipe_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("input");
        std::fs::write(&path, "from a file").unwrap();
        let file = std::fs::File::open(path).unwrap();
        let mut stage = StagedBytes::private();
        assert_eq!(stage.take(&file, 4), Ok(Intake::Some(4)));
        assert_eq!(stage.take(&file, 100), Ok(Intake::Some(7)));
        assert_eq!(stage.take(&file, 100), Ok(Intake::End));
        assert_eq!(text(&stage, 0..11), "from a file");
    }

    #[test]
    fn bytes_that_are_not_at_the_end_are_moved_there() {
        let mut stage = StagedBytes::private();
        let (one, to_one) = pipe();
        write(&to_one, b"0123456789").unwrap();
        stage.take(&one, 100).unwrap();
        assert_eq!(stage.move_to_end(7..10), Ok(7), "it is there");
        assert_eq!(stage.move_to_end(2..5), Ok(10));
        assert_eq!(text(&stage, 0..13), "0123456789234");
    }

    #[test]
    fn memory_is_given_back_and_what_is_needed_stays() {
        let mut stage = StagedBytes::private();
        let (one, to_one) = pipe();
        let block = vec![b'x'; 32 << 10];
        while !stage.is_untidy() {
            write(&to_one, &block).unwrap();
            stage.take(&one, block.len()).unwrap();
        }
        let end = stage.end();
        stage.tidy(vec![end - 3..end, 10..20]);
        assert_eq!((stage.end(), stage.is_untidy()), (end, false));
        assert_eq!(text(&stage, end - 3..end) + &text(&stage, 10..20), "x".repeat(13));
        assert!(blocks(&stage) <= 16, "two pages of 8 blocks each");
        stage.tidy(Vec::new());
        assert_eq!((stage.end(), blocks(&stage)), (0, 0));
    }

    #[test]
    fn bytes_that_do_not_fit_into_the_file_are_in_memory_until_none_are_left() {
        let mut stage = StagedBytes::private();
        let (one, to_one) = pipe();
        write(&to_one, b"in the file").unwrap();
        stage.take(&one, 100).unwrap();
        stage.leave_file(std::slice::from_ref(&(3..11))).unwrap();
        write(&to_one, b", in memory").unwrap();
        assert_eq!(stage.take(&one, 100), Ok(Intake::Some(11)));
        assert_eq!(text(&stage, 3..22), "the file, in memory");
        assert_eq!(stage.move_to_end(3..6), Ok(22));
        assert_eq!(text(&stage, 20..25), "rythe");
        let needed = std::iter::once(22..25);
        stage.tidy(needed.collect());
        assert_eq!((text(&stage, 22..25), stage.has_left_file()), ("the".to_owned(), true));
        stage.tidy(Vec::new());
        assert_eq!((stage.end(), stage.has_left_file()), (0, false));
        write(&to_one, b"again").unwrap();
        assert_eq!(stage.take(&one, 100), Ok(Intake::Some(5)));
        assert_eq!((text(&stage, 0..5), blocks(&stage) > 0), ("again".to_owned(), true));
    }

    #[test]
    fn a_stage_without_any_file_takes_bytes_as_well() {
        let mut stage =
            StagedBytes { file: None, segments: Some(Segments::default()), ..StagedBytes::private() };
        let (one, to_one) = pipe();
        assert_eq!(stage.take(&one, 100), Ok(Intake::Empty));
        for _ in 0..3 {
            write(&to_one, b"hello").unwrap();
            assert_eq!(stage.take(&one, 100), Ok(Intake::Some(5)));
        }
        assert_eq!(text(&stage, 0..15), "hellohellohello");
        stage.tidy(Vec::new());
        assert_eq!(stage.read(0, &mut [0; 1]), Err(Errno::IO));
        assert_eq!(stage.end(), 15);
    }
}
