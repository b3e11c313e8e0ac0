//! What may be found where a supervisor's file, FIFO or directory should be.
//!
//! *Lives here:* the list of such things and the making of each. *Does not live here:* how a
//! program should react to one.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{need_root, waiting};

/// The content of the wrong files, which nothing may change.
pub const PRECIOUS: &str = "precious";

/// Something that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Missing,
    Empty,
    /// The first bytes of the old content, or of zeros.
    Truncated(usize),
    /// This number of random bytes, from this seed.
    Random(u64, usize),
    /// A file with other content.
    File,
    Directory,
    /// A directory that cannot be replaced, because it is not empty.
    FullDirectory,
    /// A FIFO that nobody holds.
    Fifo,
    /// A FIFO that a process holds without reading or writing.
    HeldFifo,
    Socket,
    /// A character device by its numbers.
    Device(u32, u32),
    /// A link to itself.
    Loop,
    DanglingLink,
    LinkToZeros,
}

/// All of them; the devices are `null`, `zero` and `full`.
pub const EVERY: [Wrong; 24] = [
    Wrong::Missing,
    Wrong::Empty,
    Wrong::Truncated(1),
    Wrong::Truncated(13),
    Wrong::Truncated(34),
    Wrong::Random(1, 14),
    Wrong::Random(2, 35),
    Wrong::Random(3, 36),
    Wrong::Random(4, 43),
    Wrong::Random(5, 140),
    Wrong::Random(6, 1000),
    Wrong::Random(7, 1 << 20),
    Wrong::File,
    Wrong::Directory,
    Wrong::FullDirectory,
    Wrong::Fifo,
    Wrong::HeldFifo,
    Wrong::Socket,
    Wrong::Device(1, 3),
    Wrong::Device(1, 5),
    Wrong::Device(1, 7),
    Wrong::Loop,
    Wrong::DanglingLink,
    Wrong::LinkToZeros,
];

impl Wrong {
    /// Returns whether its bytes may be right by chance.
    pub const fn may_be_right(self) -> bool {
        matches!(self, Self::Random(..))
    }

    /// Puts it in the place of something else. Returns a value that must be held as long as it
    /// shall be there.
    pub fn replace(self, path: &Path) -> Option<Box<dyn Send>> {
        let before = remove(path);
        match self {
            Self::Missing => {}
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Truncated(size) => {
                let mut bytes = before;
                bytes.resize(size, 0);
                fs::write(path, bytes).unwrap();
            }
            Self::Random(seed, size) => {
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let bytes = std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    u8::try_from(state >> 56).unwrap()
                });
                fs::write(path, bytes.take(size).collect::<Vec<u8>>()).unwrap();
            }
            Self::File => fs::write(path, PRECIOUS).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::FullDirectory => fs::create_dir_all(path.join("more/and/more")).unwrap(),
            Self::Fifo => waiting::stale_fifo(path),
            Self::HeldFifo => return Some(Box::new(waiting::fifo(path))),
            Self::Socket => return Some(Box::new(UnixListener::bind(path).unwrap())),
            Self::Device(major, minor) => {
                need_root();
                let mode = Mode::from_raw_mode(0o666);
                mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor)).unwrap();
            }
            Self::Loop => symlink(path.file_name().unwrap(), path).unwrap(),
            Self::DanglingLink => symlink("/none/such", path).unwrap(),
            Self::LinkToZeros => symlink("/dev/zero", path).unwrap(),
        }
        None
    }
}

/// Removes whatever is at `path`, and returns the bytes of a file that was there.
pub fn remove(path: &Path) -> Vec<u8> {
    let Ok(found) = path.symlink_metadata() else { return Vec::new() };
    if found.is_dir() {
        fs::remove_dir_all(path).unwrap();
        return Vec::new();
    }
    let bytes = if found.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    fs::remove_file(path).unwrap();
    bytes
}
