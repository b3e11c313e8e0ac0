//! Staged bytes in this process's memory, for when there is no memory file, or it may not grow any
//! more.
//!
//! *Lives here:* the bytes by their places.
//! *Does not live here:* the decision to do without a file (`stage`).

use std::collections::BTreeMap;
use std::ops::Range;

use rustix::io::Errno;

/// Pieces of the stage by their beginnings.
#[derive(Debug, Default)]
pub(crate) struct Segments(BTreeMap<u64, Vec<u8>>);

impl Segments {
    /// Stores bytes at a place that holds none.
    pub fn put(&mut self, at: u64, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.0.insert(at, bytes);
        }
    }

    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    /// `EIO` if there are fewer.
    pub fn read(&self, mut at: u64, mut buffer: &mut [u8]) -> Result<(), Errno> {
        while !buffer.is_empty() {
            let (begin, bytes) = self.0.range(..=at).next_back().ok_or(Errno::IO)?;
            let offset = usize::try_from(at.saturating_sub(*begin)).unwrap_or(usize::MAX);
            let there = bytes.get(offset..).filter(|there| !there.is_empty()).ok_or(Errno::IO)?;
            let count = there.len().min(buffer.len());
            let (now, later) = std::mem::take(&mut buffer).split_at_mut(count);
            now.copy_from_slice(there.get(..count).ok_or(Errno::IO)?);
            at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            buffer = later;
        }
        Ok(())
    }

    /// Forgets the pieces that are completely outside these ranges.
    pub fn keep_only(&mut self, needed: &[Range<u64>]) {
        self.0.retain(|begin, bytes| {
            let end = begin.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            needed.iter().any(|range| range.start < end && *begin < range.end)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(segments: &Segments, range: Range<u64>) -> Result<String, Errno> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        segments.read(range.start, &mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn bytes_are_found_at_their_places_across_pieces_and_not_where_there_are_none() {
        let mut segments = Segments::default();
        segments.put(10, b"hello ".to_vec());
        segments.put(16, b"world".to_vec());
        segments.put(16, Vec::new());
        assert_eq!(read(&segments, 12..19).unwrap(), "llo wor");
        assert_eq!(read(&segments, 10..21).unwrap(), "hello world");
        for none in [9..11, 20..22, 30..31] {
            assert_eq!(read(&segments, none), Err(Errno::IO));
        }
        segments.keep_only(std::slice::from_ref(&(16..17)));
        assert_eq!(read(&segments, 16..21).unwrap(), "world");
        assert_eq!(read(&segments, 10..11), Err(Errno::IO));
    }
}
