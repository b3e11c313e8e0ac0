//! Finds where the last chosen lines of a file begin.
//!
//! *Lives here:* examining a file from its end, no further than necessary, and a compressed file
//! from its beginning.
//! *Does not live here:* which file comes before.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use memchr::{memchr, memrchr_iter};
use rustix::io::{Errno, pread};

use crate::entry::Time;
use crate::holes::{self, Extent};
use crate::input::{BLOCK, LogInput};
use crate::lines::{LONGEST, LineReader};
use crate::names::{Form, OpenedFile};
use crate::pick::Judge;

/// The most bytes that are searched for the beginning of a line with a stamp.
const WIDEST: usize = 4 << 20;

/// The beginning of the last chosen lines of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The offset of the first of them.
    pub offset: u64,
    /// Their number, at most the requested one.
    pub lines: usize,
    /// The time that the first one has from a line before it.
    pub before: Option<Time>,
    /// Whether nothing before it can be chosen, even if lines are missing.
    pub is_beginning: bool,
}

impl Tail {
    const fn at(offset: u64, lines: usize) -> Self {
        Self { offset, lines, before: None, is_beginning: false }
    }
}

/// Returns where the last `wanted` chosen lines begin; `None` means all chosen lines.
///
/// The bytes after the last newline count as a line only if `counts_rest`; otherwise reading begins
/// so that they come as a whole line later.
pub(crate) fn tail(
    file: &OpenedFile,
    wanted: Option<usize>,
    judge: &mut Judge,
    counts_rest: bool,
) -> Result<Tail, Errno> {
    judge.before = None;
    match (wanted, file.form) {
        (None, _) if judge.pick().since.is_none() => Ok(Tail::at(0, usize::MAX)),
        (None, Form::Compressed) => Ok(Tail::at(0, usize::MAX)),
        (Some(wanted), Form::Compressed) => of_compressed(file, wanted, judge),
        (Some(wanted), Form::Plain) if judge.pick().is_everything() => {
            of_newlines(&file.file, wanted, counts_rest)
        }
        (wanted, Form::Plain) => of_wanted(&file.file, wanted.unwrap_or(usize::MAX), judge, counts_rest),
    }
}

/// Counts newlines from the end.
fn of_newlines(file: impl AsFd, wanted: usize, counts_rest: bool) -> Result<Tail, Errno> {
    let size = size_of(&file)?;
    let has_rest = has_rest(&file, size)?;
    let rest_counts = has_rest && counts_rest;
    if wanted == 0 && (counts_rest || !has_rest) {
        return Ok(Tail::at(size, 0));
    }
    // The newline before the first requested line is this many newlines from the end.
    let target = if rest_counts { wanted } else { wanted.saturating_add(1) };
    let mut seen: usize = 0;
    let mut end = size;
    // The number of bytes since the last newline, or since a piece of a line.
    let mut unbroken: usize = 0;
    while let Some(Extent { start, end: data_end, .. }) = holes::last_before(&file, end, wide(BLOCK))? {
        let block = read_between(&file, start, data_end)?;
        let mut after = block.len();
        for at in memrchr_iter(b'\n', &block) {
            seen = seen.saturating_add(1);
            if seen == target {
                return Ok(Tail::at(beyond(start, at.saturating_add(1)), wanted));
            }
            (unbroken, after) = (0, at);
        }
        unbroken = unbroken.saturating_add(after);
        if unbroken >= LONGEST {
            // Forwards it would come in pieces of this length, each as if it were a line.
            (seen, unbroken) = (seen.saturating_add(1), 0);
            if seen >= target {
                return Ok(Tail::at(start, wanted));
            }
        }
        end = start;
    }
    Ok(Tail::at(0, seen.saturating_add(usize::from(rest_counts))))
}

/// Judges chunks from the end. Each begins with a stamped line, so that the lines without a stamp
/// after it have its time.
fn of_wanted(file: impl AsFd, wanted: usize, judge: &mut Judge, counts_rest: bool) -> Result<Tail, Errno> {
    let size = size_of(&file)?;
    let mut end = size;
    if !counts_rest && has_rest(&file, size)? {
        // It is not counted, and comes in any case.
        end = of_newlines(&file, 0, false)?.offset;
    }
    if wanted == 0 {
        return Ok(Tail::at(end, 0));
    }
    let mut missing = wanted;
    while end > 0 {
        let Some(chunk) = Chunk::before(&file, end, judge)? else { break };
        let mut found: VecDeque<(u64, Option<Time>)> = VecDeque::new();
        let counted = chunk.judge(judge, missing, &mut found);
        missing = missing.saturating_sub(counted);
        let too_early = judge.pick().since.zip(chunk.time).is_some_and(|(since, time)| time < since);
        if missing == 0 || too_early {
            let (offset, before) = found.front().copied().unwrap_or((end, None));
            let lines = wanted.saturating_sub(missing);
            return Ok(Tail { offset, lines, before, is_beginning: too_early });
        }
        end = chunk.offset;
    }
    Ok(Tail::at(0, wanted.saturating_sub(missing)))
}

/// A part of a file that begins with a line.
struct Chunk {
    offset: u64,
    bytes: Vec<u8>,
    /// The time of its first line.
    time: Option<Time>,
}

impl Chunk {
    /// Returns the last chunk before `end`, no larger than necessary; `None` if there are only
    /// holes.
    fn before(file: impl AsFd, end: u64, judge: &mut Judge) -> Result<Option<Self>, Errno> {
        let mut width = BLOCK;
        loop {
            let Some(extent) = holes::last_before(&file, end, wide(width))? else { return Ok(None) };
            let Extent { start, end, is_whole } = extent;
            let mut bytes = read_between(&file, start, end)?;
            // In the middle of a file, the beginning of the first line is not seen.
            let mut at = if is_whole { Some(0) } else { line_after(&bytes, 0) };
            let any = at;
            let mut time = None;
            while let Some(begin) = at
                && time.is_none()
            {
                let line = bytes.get(begin..).unwrap_or_default();
                time = judge.time_of(line.split(|byte| *byte == b'\n').next().unwrap_or_default());
                if time.is_none() {
                    at = line_after(&bytes, begin);
                }
            }
            if at.is_none() && !is_whole && width < WIDEST {
                width = width.saturating_mul(2);
                continue;
            }
            // The beginning of a file is accepted without a stamp, and so is a wide chunk without
            // any.
            let begin = if start == 0 { 0 } else { at.or(any).unwrap_or(0) };
            let time = if at == Some(begin) { time } else { None };
            bytes.drain(..begin.min(bytes.len()));
            return Ok(Some(Self { offset: beyond(start, begin), bytes, time }));
        }
    }

    /// Notes where the last `most` chosen lines begin; returns their number.
    fn judge(&self, judge: &mut Judge, most: usize, found: &mut VecDeque<(u64, Option<Time>)>) -> usize {
        judge.before = None;
        let mut at: usize = 0;
        while let Some(rest) = self.bytes.get(at..)
            && !rest.is_empty()
        {
            let length = memchr(b'\n', rest).unwrap_or(rest.len());
            let before = judge.before;
            if judge.judge(rest.get(..length).unwrap_or_default()).1 {
                note(found, most, (beyond(self.offset, at), before));
            }
            at = at.saturating_add(length).saturating_add(1);
        }
        found.len()
    }
}

/// Judges all lines of a compressed file.
fn of_compressed(file: &OpenedFile, wanted: usize, judge: &mut Judge) -> Result<Tail, Errno> {
    let copy = rustix::io::fcntl_dupfd_cloexec(&file.file, 0)?;
    let mut lines = LineReader::new(LogInput::new(copy, Form::Compressed, 0), 0);
    let mut found = VecDeque::new();
    loop {
        let place = (lines.offset(), judge.before);
        let Some(line) = lines.next()?.or_else(|| lines.rest()) else { break };
        if judge.judge(lines.line(line)).1 {
            note(&mut found, wanted, place);
        }
    }
    let (offset, before) = found.front().copied().unwrap_or((lines.offset(), None));
    Ok(Tail { offset, lines: found.len(), before, is_beginning: false })
}

/// Keeps the last `most` places.
fn note(found: &mut VecDeque<(u64, Option<Time>)>, most: usize, place: (u64, Option<Time>)) {
    if most == usize::MAX && !found.is_empty() {
        // Then only the first one counts.
        return;
    }
    if found.len() == most {
        found.pop_front();
    }
    if most > 0 {
        found.push_back(place);
    }
}

/// Returns where the first line begins whose preceding newline is at `from` or later.
fn line_after(bytes: &[u8], from: usize) -> Option<usize> {
    let newline = memchr(b'\n', bytes.get(from..)?)?;
    let begin = from.saturating_add(newline).saturating_add(1);
    (begin < bytes.len()).then_some(begin)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn beyond(offset: u64, by: usize) -> u64 {
    offset.saturating_add(u64::try_from(by).unwrap_or(0))
}

fn size_of(file: impl AsFd) -> Result<u64, Errno> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Returns whether a file ends in the middle of a line.
fn has_rest(file: impl AsFd, size: u64) -> Result<bool, Errno> {
    Ok(size > 0 && read_between(file, size.saturating_sub(1), size)? != b"\n")
}

/// Reads from `start` to `end`, or less if the file is shorter.
fn read_between(file: impl AsFd, start: u64, end: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(BLOCK)];
    let mut filled: usize = 0;
    while let Some(room) = bytes.get_mut(filled..)
        && !room.is_empty()
    {
        match pread(&file, room, beyond(start, filled)) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Clock, Parser};
    use crate::pick::Pick;
    use proptest::prelude::*;
    use regex::bytes::Regex;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> OpenedFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        OpenedFile { file: file.into(), inode: (0, 0), form: Form::Plain, is_archive: false }
    }

    fn judge(pick: Pick) -> Judge {
        Judge::new(pick, Parser::new(Clock::Utc))
    }

    fn lines_from(bytes: &[u8], offset: u64) -> Vec<Vec<u8>> {
        let mut reader = LineReader::new(LogInput::new(file_of(bytes).file, Form::Plain, offset), offset);
        let mut lines = Vec::new();
        while let Some(range) = reader.next().unwrap() {
            lines.push(reader.line(range).to_vec());
        }
        lines.extend(reader.rest().map(|range| reader.line(range).to_vec()));
        lines
    }

    #[test]
    fn the_last_lines_begin_where_they_begin() {
        // Counted both by newlines and by examining lines.
        let everything = Pick::default();
        let all_match = Pick { grep: Some(Regex::new("").unwrap()), ..Pick::default() };
        for pick in [everything, all_match] {
            let check = |text: &[u8], wanted, counts_rest, expected| {
                let found =
                    tail(&file_of(text), Some(wanted), &mut judge(pick.clone()), counts_rest).unwrap();
                assert_eq!((found.offset, found.lines), expected, "{wanted} {counts_rest} {pick:?}");
            };
            for (wanted, offset, lines) in [(0, 14, 0), (1, 8, 1), (2, 4, 2), (3, 0, 3), (9, 0, 3)] {
                for counts_rest in [true, false] {
                    check(b"one\ntwo\nthree\n", wanted, counts_rest, (offset, lines));
                }
            }
            let text = b"one\ntwo\nrest";
            for (wanted, offset, lines) in [(0, 12, 0), (1, 8, 1), (2, 4, 2), (9, 0, 3)] {
                check(text, wanted, true, (offset, lines));
            }
            for (wanted, offset, lines) in [(0, 8, 0), (1, 4, 1), (2, 0, 2), (9, 0, 2)] {
                check(text, wanted, false, (offset, lines));
            }
            check(b"", 5, true, (0, 0));
            check(b"rest", 0, false, (0, 0));
        }
    }

    #[test]
    fn a_large_file_is_looked_at_no_further_back_than_needed() {
        // It is sparse: parts that are not examined cost nothing, and examining all of it would
        // take very long.
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"\n2026-11-20 10:00:00.000000000  a\n", 1 << 40)
            .unwrap();
        let line = "2026-11-20 10:00:01.000000000  b\n".repeat(10_000);
        std::os::unix::fs::FileExt::write_all_at(&file, line.as_bytes(), (1 << 40) + 34).unwrap();
        let file = OpenedFile { file: file.into(), inode: (0, 0), form: Form::Plain, is_archive: false };
        let end = (1 << 40) + 34 + line.len() as u64;
        let grep = Pick { grep: Some(Regex::new("a").unwrap()), ..Pick::default() };
        assert_eq!(tail(&file, Some(1), &mut judge(grep), true).unwrap().offset, (1 << 40) + 1);
        let time = crate::Time { seconds: 1_795_168_801, nanos: 0 };
        let since = Pick { since: Some(time), ..Pick::default() };
        let found = tail(&file, None, &mut judge(since.clone()), true).unwrap();
        assert!(found.is_beginning && found.offset > 1 << 40 && found.offset <= (1 << 40) + 34);
        let found = tail(&file, Some(3), &mut judge(since), true).unwrap();
        assert_eq!((found.offset, found.lines), (end - 3 * 33, 3));
        assert_eq!(tail(&file, Some(2), &mut judge(Pick::default()), true).unwrap().offset, end - 66);
    }

    proptest! {
        #[test]
        fn reading_from_the_tail_gives_the_last_lines(
            text in "([a-c]{0,5}\n){0,30}[a-c]{0,5}",
            long in 0..3usize,
            wanted in 0..40usize,
            counts_rest in any::<bool>(),
            grep in prop::option::of("[a-c]"),
        ) {
            // Some of the lines are longer than a block.
            let text = format!("{}\n{text}", "x".repeat(long * 50_000)).into_bytes();
            let grep = grep.map(|grep| Regex::new(&grep).unwrap());
            let matches = |line: &Vec<u8>| grep.as_ref().is_none_or(|grep| grep.is_match(line));
            let pick = Pick { grep: grep.clone(), ..Pick::default() };
            let found = tail(&file_of(&text), Some(wanted), &mut judge(pick), counts_rest).unwrap();
            let mut all: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let rest = all.pop().filter(|rest| !rest.is_empty());
            if counts_rest {
                all.extend(rest.clone());
            }
            all.retain(matches);
            let lines = wanted.min(all.len());
            prop_assert_eq!(found.lines, lines);
            let mut expected = all[all.len() - lines..].to_vec();
            if !counts_rest {
                expected.extend(rest.filter(matches));
            }
            let mut given = lines_from(&text, found.offset);
            given.retain(matches);
            prop_assert_eq!(given, expected);
        }
    }
}
