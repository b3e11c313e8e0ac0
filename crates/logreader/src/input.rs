//! The bytes of a file in order, compressed or not.
//!
//! *Lives here:* reading from an offset on, and unpacking Zstandard (RFC 8878): any number of
//! frames, with checksums, with skippable frames between them.
//! *Does not live here:* lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use rustix::io::{Errno, pread};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::holes;
use crate::names::Form;

/// The most bytes that are read at once.
pub(crate) const BLOCK: usize = 64 << 10;

/// The most bytes that are unpacked from a compressed file, because a few bytes may unpack to any
/// number.
const MOST_UNPACKED: u64 = 4 << 30;

/// Why no more can be read.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The system refuses.
    System(Errno),
    /// The compressed data cannot be unpacked.
    Damaged(String),
}

/// A source of bytes.
#[derive(Debug)]
pub(crate) enum LogInput {
    /// A file, which may grow.
    Plain {
        /// Where bytes are read from.
        file: OwnedFd,
        /// The offset of the next read.
        offset: u64,
    },
    /// A compressed file.
    Compressed(Box<Unpacker>),
}

impl LogInput {
    /// Returns an input that reads a file from `offset` on; for a compressed file, the offset is
    /// that of the unpacked bytes.
    pub fn new(file: OwnedFd, form: Form, offset: u64) -> Self {
        match form {
            Form::Plain => Self::Plain { file, offset },
            Form::Compressed => Self::Compressed(Box::new(Unpacker::new(file, offset))),
        }
    }

    /// Returns the file, unless it is compressed: compressed files do not change.
    pub fn file(&self) -> Option<&OwnedFd> {
        match self {
            Self::Plain { file, .. } => Some(file),
            Self::Compressed(_) => None,
        }
    }

    /// Returns the file, unless it is compressed, and ends the input.
    pub fn into_file(self) -> Option<OwnedFd> {
        match self {
            Self::Plain { file, .. } => Some(file),
            Self::Compressed(_) => None,
        }
    }

    /// Appends the next bytes to `buffer`; returns their number, 0 at the end.
    pub fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<usize, InputError> {
        buffer.reserve(BLOCK);
        match self {
            Self::Plain { file, offset } => loop {
                let Some(data) = holes::data_from(&*file, *offset).map_err(InputError::System)? else {
                    return Ok(0);
                };
                *offset = data;
                match pread(&*file, rustix::buffer::spare_capacity(buffer), *offset) {
                    Ok(n) => {
                        *offset = offset.saturating_add(u64::try_from(n).unwrap_or(0));
                        return Ok(n);
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(InputError::System(errno)),
                }
            },
            Self::Compressed(unpacker) => unpacker.read_into(buffer),
        }
    }
}

/// Unpacks a file from its beginning.
pub(crate) struct Unpacker {
    packed: BufReader<File>,
    decoder: FrameDecoder,
    /// Whether a frame has begun.
    in_frame: bool,
    /// Whether there is nothing more, or nothing more can be read.
    ended: bool,
    /// Unpacked bytes that are to be skipped.
    skip: u64,
    /// Bytes that may still be unpacked.
    left: u64,
    block: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("skip", &self.skip).finish_non_exhaustive()
    }
}

impl Unpacker {
    fn new(file: OwnedFd, skip: u64) -> Self {
        // Another reader may have used a duplicate of this descriptor.
        let _ = rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0));
        let packed = BufReader::with_capacity(BLOCK, File::from(file));
        Self {
            packed,
            decoder: FrameDecoder::new(),
            in_frame: false,
            ended: false,
            skip,
            left: MOST_UNPACKED,
            block: Vec::new(),
        }
    }

    fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<usize, InputError> {
        self.block.resize(BLOCK, 0);
        while !self.ended {
            let read = self.unpack();
            let n = match read {
                Ok(n) => n,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            };
            let length = u64::try_from(n).unwrap_or(0);
            let Some(left) = self.left.checked_sub(length) else {
                self.ended = true;
                return Err(InputError::Damaged(format!("it unpacks to more than {MOST_UNPACKED} bytes")));
            };
            self.left = left;
            let unwanted = self.skip.min(length);
            self.skip = self.skip.saturating_sub(unwanted);
            let wanted = self.block.get(usize::try_from(unwanted).unwrap_or(n)..n).unwrap_or_default();
            if !wanted.is_empty() {
                buffer.extend_from_slice(wanted);
                return Ok(wanted.len());
            }
        }
        Ok(0)
    }

    /// Unpacks into `block`; 0 bytes mean the end of a frame or of everything.
    fn unpack(&mut self) -> Result<usize, InputError> {
        if !self.in_frame {
            if self.packed.fill_buf().map_err(|error| of_io(&error))?.is_empty() {
                self.ended = true;
            } else {
                self.begin_frame()?;
            }
            return Ok(0);
        }
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let block = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.packed, block).map_err(|error| of_decoder(&error))?;
        }
        let n = self.decoder.read(&mut self.block).map_err(|error| of_io(&error))?;
        if n == 0 && self.decoder.is_finished() {
            self.in_frame = false;
            let written = self.decoder.get_checksum_from_data();
            if written.is_some() && written != self.decoder.get_calculated_checksum() {
                return Err(InputError::Damaged("its checksum is another one".to_owned()));
            }
        }
        Ok(n)
    }

    fn begin_frame(&mut self) -> Result<(), InputError> {
        match self.decoder.reset(&mut self.packed) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                self.packed.seek_relative(length.into()).map_err(|error| of_io(&error))?;
            }
            Err(error) => return Err(of_decoder(&error)),
        }
        Ok(())
    }
}

fn of_io(error: &std::io::Error) -> InputError {
    Errno::from_io_error(error)
        .map_or_else(|| InputError::Damaged(gatevisor_wire::exit::error_chain(error)), InputError::System)
}

fn of_decoder(error: &FrameDecoderError) -> InputError {
    InputError::Damaged(gatevisor_wire::exit::error_chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_that_unpacks_to_no_end_is_damaged() {
        // The header of a frame without its size; then blocks of one repeated byte, none of them
        // the last.
        let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
        for _ in 0..100 {
            packed.extend([0x02, 0x00, 0x10, b'x']);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&packed).unwrap();
        let mut unpacker = Unpacker::new(file.into(), 0);
        unpacker.left = 1 << 20;
        let mut bytes = Vec::new();
        let why = loop {
            match unpacker.read_into(&mut bytes) {
                Ok(0) => panic!("it ended well after {} bytes", bytes.len()),
                Ok(_) => {}
                Err(InputError::Damaged(why)) => break why,
                Err(InputError::System(errno)) => panic!("{errno}"),
            }
        };
        assert!(why.contains("unpacks to more") && bytes.len() <= 1 << 20, "{why}: {}", bytes.len());
    }
}
