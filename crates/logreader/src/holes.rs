//! Finds the data in a sparse file, which may be far larger than its data.
//!
//! *Lives here:* asking the file system, so that bytes that were never written are not read. A hole
//! is left out as if it were not there.
//! *Does not live here:* lines.
//!
//! A file system that does not support holes answers that everything is data.
//!
//! **Source:** lseek(2), `SEEK_DATA` and `SEEK_HOLE`.

use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// A part of a file without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub start: u64,
    pub end: u64,
    /// Whether there is no data just before it.
    pub is_whole: bool,
}

/// Returns where data begins at `offset` or later; `None` if there is no more.
pub(crate) fn data_from(file: impl AsFd, offset: u64) -> Result<Option<u64>, Errno> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(at) => Ok(Some(at.max(offset))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Some(offset)),
        Err(errno) => Err(errno),
    }
}

/// Returns the end of the data at `offset`.
fn data_until(file: impl AsFd, offset: u64) -> Result<u64, Errno> {
    match seek(file, SeekFrom::Hole(offset)) {
        Ok(at) => Ok(at.max(offset.saturating_add(1))),
        // A part that was cut off meanwhile cannot be read anyway.
        Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => Ok(u64::MAX),
        Err(errno) => Err(errno),
    }
}

/// Returns the last data before `end`, at most `width` bytes; `None` if there is none.
///
/// However large a hole is, this takes some dozens of calls.
pub(crate) fn last_before(file: impl AsFd, end: u64, width: u64) -> Result<Option<Extent>, Errno> {
    let mut end = end;
    while end > 0 {
        let from = end.saturating_sub(width);
        match data_from(&file, from)?.filter(|at| *at < end) {
            Some(start) => return last_of(&file, start, end, from).map(Some),
            None => end = end_of_data(&file, from, width)?,
        }
    }
    Ok(None)
}

/// Returns the last extent between `start`, where there is data, and `end`.
fn last_of(file: impl AsFd, start: u64, end: u64, from: u64) -> Result<Extent, Errno> {
    let mut extent = Extent { start, end, is_whole: start > from || start == 0 };
    loop {
        let hole = data_until(&file, extent.start)?;
        if hole >= end {
            return Ok(extent);
        }
        match data_from(&file, hole)?.filter(|at| *at < end) {
            Some(at) => extent = Extent { start: at, end, is_whole: true },
            None => return Ok(Extent { end: hole, ..extent }),
        }
    }
}

/// Returns a place before `end`, such that there is no data from there to `end`, and some data at
/// most `width` bytes before it; 0 if there is none at all.
fn end_of_data(file: impl AsFd, end: u64, width: u64) -> Result<u64, Errno> {
    // The data is not before `low`, where there is some, and not after `high`.
    let (mut low, mut high, mut reach) = (0, end, width);
    while low == 0 && high > 0 {
        let from = high.saturating_sub(reach);
        match data_from(&file, from)?.filter(|at| *at < high) {
            Some(at) => low = at,
            None => high = from,
        }
        if low == 0 && from == 0 {
            break;
        }
        reach = reach.saturating_mul(2);
    }
    while high.saturating_sub(low) > width {
        let middle = low.midpoint(high);
        match data_from(&file, middle)?.filter(|at| *at < high) {
            Some(at) => low = at,
            None => high = middle,
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    const WIDTH: u64 = 64 << 10;
    const PAGE: u64 = 4096;

    fn sparse(size: u64, written: &[u64]) -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for at in written {
            file.write_all_at(b"x", *at).unwrap();
        }
        file
    }

    #[test]
    fn the_last_data_is_found_behind_the_largest_hole() {
        let size = 3 << 40;
        assert_eq!(last_before(sparse(size, &[]), size, WIDTH).unwrap(), None);
        for at in [0, PAGE, 1 << 20, (1 << 40) + PAGE, size - PAGE] {
            let extent = last_before(sparse(size, &[0, at]), size, WIDTH).unwrap().unwrap();
            // Two adjacent pages have no hole between them.
            let start = if at == PAGE { 0 } else { at };
            assert_eq!((extent.start, extent.end), (start, at + PAGE), "{at}");
        }
    }

    #[test]
    fn data_without_a_hole_is_given_in_parts() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![b'x'; 200_000], 0).unwrap();
        let last = |end| last_before(&file, end, WIDTH).unwrap().unwrap();
        assert_eq!(last(200_000), Extent { start: 200_000 - WIDTH, end: 200_000, is_whole: false });
        assert_eq!(last(1000), Extent { start: 0, end: 1000, is_whole: true });
    }

    proptest! {
        #[test]
        fn going_back_from_data_to_data_meets_all_that_was_written(
            pages in prop::collection::btree_set(0..2000u64, 0..12),
            end in 0..2000u64,
        ) {
            let written: Vec<u64> = pages.iter().map(|page| page * PAGE).collect();
            let file = sparse(2000 * PAGE, &written);
            let mut met = std::collections::BTreeSet::new();
            let mut at = end * PAGE;
            while let Some(extent) = last_before(&file, at, WIDTH).unwrap() {
                prop_assert!(extent.start < extent.end && extent.end <= at);
                met.extend((extent.start / PAGE)..extent.end.div_ceil(PAGE));
                at = extent.start;
            }
            prop_assert_eq!(met, pages.into_iter().filter(|page| *page < end).collect());
        }
    }
}
