//! Compresses archives in the background.
//!
//! *Lives here:* one thread of the lowest priority for all directories, started at the first
//! request, and an order of steps by which a crash leaves an archive in one form or in both, never
//! in none.
//! *Does not live here:* when an archive is made (`log_dir`), and reading compressed ones
//! (`gatevisor-logreader`).
//!
//! The compressed form is written under a name with a dot, read back and compared, synced, and
//! given the archive's name with `.zst`. Then the plain form is removed. A reader that finds both
//! has the same lines twice and takes one; the next pass removes the plain form. An archive whose
//! compression was interrupted [`ATTEMPTS`] times stays plain, so that an archive that kills its
//! compressor does not do so for ever.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatevisor_sys::file;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fchmod, fstat, fsync, ftruncate, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress};

use gatevisor_wire::exit::error_chain;
use gatevisor_wire::log_directory::{Archive, COMPRESSED};

/// How often the compression of an archive is attempted.
const ATTEMPTS: usize = 3;
/// Bytes that are read, compared or written at once.
const CHUNK: usize = 64 << 10;
/// The niceness of the compressor's thread, which makes it yield to everything else.
const NICE: i32 = 19;
const MODE: Mode = Mode::from_raw_mode(0o744);

/// Why an archive stays as it is.
#[derive(Debug, thiserror::Error)]
enum CompressError {
    #[error("cannot read `{name}`")]
    Read { name: String, source: io::Error },
    #[error("cannot write the compressed form of `{name}`")]
    Write { name: String, source: io::Error },
    #[error("the compressed form of `{name}` does not read back as it was")]
    Differs { name: String },
    #[error("cannot replace `{name}` by its compressed form")]
    Replace { name: String, source: Errno },
    #[error("cannot list the directory")]
    List(#[source] Errno),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A directory's requests to the thread.
#[derive(Debug)]
pub(crate) struct Compression {
    shared: Arc<SharedStatus>,
}

#[derive(Debug, Default)]
struct SharedStatus {
    state: Mutex<CompressionStatus>,
    #[cfg(test)]
    done: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct CompressionStatus {
    /// Whether the thread has a request that it has not begun.
    requested: bool,
    /// The last error, until it is reported.
    complaint: Option<String>,
    /// Whether the last attempt failed, too.
    failing: bool,
    #[cfg(test)]
    passes: usize,
}

impl SharedStatus {
    fn lock(&self) -> MutexGuard<'_, CompressionStatus> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, result: Result<(), CompressError>) {
        let mut state = self.lock();
        match result {
            Ok(()) => state.failing = false,
            Err(error) => {
                // A repeated error is reported once.
                if !state.failing {
                    state.complaint = Some(format!("{}; it stays as it is", error_chain(&error)));
                }
                state.failing = true;
            }
        }
        #[cfg(test)]
        {
            state.passes += 1;
            self.done.notify_all();
        }
    }
}

struct CompressionJob {
    directory: OwnedFd,
    shared: Arc<SharedStatus>,
}

/// This lock is held while archives are listed in order to name or delete one, and while an archive
/// is renamed, for a few system calls at a time. Otherwise a list might miss an archive that is
/// just being renamed, so that its stamp is given twice; or an archive that was deleted for its age
/// might come back.
static NAMES: Mutex<()> = Mutex::new(());

/// Keeps the thread from renaming archives until the returned guard is dropped.
pub(crate) fn hold_names() -> MutexGuard<'static, ()> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The channel to the thread, once it exists.
static THREAD: Mutex<Option<Sender<CompressionJob>>> = Mutex::new(None);

impl Compression {
    /// Returns the state of a directory without a request.
    pub fn new() -> Self {
        Self { shared: Arc::new(SharedStatus::default()) }
    }

    /// Requests that the archives of `directory` are compressed at some time.
    pub fn request(&self, directory: &OwnedFd) {
        let mut state = self.shared.lock();
        if state.requested {
            return;
        }
        // If no descriptor is free, the next rotation requests it again.
        let Ok(directory) = directory.try_clone() else { return };
        state.requested = true;
        drop(state);
        if let Err(error) = send(CompressionJob { directory, shared: Arc::clone(&self.shared) }) {
            self.shared.lock().requested = false;
            self.shared.finish(Err(CompressError::Thread(error)));
        }
    }

    /// Returns the last error, once.
    pub fn complaint(&self) -> Option<String> {
        self.shared.lock().complaint.take()
    }

    /// Waits until the thread has worked on the directory this many times.
    #[cfg(test)]
    pub fn wait(&self, passes: usize) {
        let mut state = self.shared.lock();
        while state.passes < passes {
            state = self.shared.done.wait(state).unwrap();
        }
    }
}

fn send(job: CompressionJob) -> io::Result<()> {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = if let Some(sender) = &*thread {
        sender.clone()
    } else {
        let (sender, jobs) = channel::<CompressionJob>();
        std::thread::Builder::new().name("compressor".to_owned()).spawn(move || {
            // This affects only this thread. If it is refused, the thread is just less polite.
            let _ = rustix::process::setpriority_process(None, NICE);
            for CompressionJob { directory, shared } in jobs {
                shared.lock().requested = false;
                let result = compress_all(&directory);
                drop(directory);
                shared.finish(result);
            }
        })?;
        thread.insert(sender).clone()
    };
    sender.send(job).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Compresses every plain archive of a directory, the oldest first. All are tried, and the first
/// failure is reported.
fn compress_all(directory: &OwnedFd) -> Result<(), CompressError> {
    let mut plain = Vec::new();
    for entry in Dir::read_from(directory).map_err(CompressError::List)? {
        let entry = entry.map_err(CompressError::List)?;
        plain.extend(Archive::parse(entry.file_name().to_bytes()));
    }
    plain.sort_unstable();
    let mut result = Ok(());
    for archive in plain {
        result = result.and(compress_one(directory, archive));
    }
    result
}

fn compress_one(directory: &OwnedFd, archive: Archive) -> Result<(), CompressError> {
    let name = archive.name();
    let compressed = format!("{name}{COMPRESSED}");
    let replace = |source| CompressError::Replace { name: name.clone(), source };
    if statat(directory, &compressed, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        // It got its name only when it was complete and on the disk.
        let _held = hold_names();
        return remove(directory, &name).map_err(replace);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, &name, flags, Mode::empty()) {
        Ok(file) => file,
        // It was deleted for its age meanwhile.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(CompressError::Read { name, source: errno.into() }),
    };
    // It is a second name of somebody else's file, and a copy would be readable for everybody who
    // may read the log.
    if fstat(&file).is_ok_and(|stat| file::is_borrowed(directory, &stat)) {
        return Ok(());
    }
    let temporary = match make_temporary(directory, &compressed) {
        Ok(Some(made)) => made,
        Ok(None) => return Ok(()),
        Err(source) => return Err(CompressError::Write { name, source: source.into() }),
    };
    let (temporary, target) = temporary;
    let result = write_compressed(&name, file.as_fd(), target.as_fd()).and_then(|()| {
        let held = hold_names();
        // If it was deleted for its age meanwhile, it must not come back.
        let is_there = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        let same = |stat: rustix::fs::Stat| fstat(&file).is_ok_and(|own| own.st_ino == stat.st_ino);
        if !is_there.is_ok_and(same) {
            return remove(directory, &temporary).map_err(replace);
        }
        renameat(directory, &temporary, directory, &compressed).map_err(replace)?;
        drop(held);
        // Some file systems have nothing to sync.
        let _ = fsync(directory);
        let _held = hold_names();
        remove(directory, &name).map_err(replace)
    });
    if result.is_err() {
        let _ = remove(directory, &temporary);
    }
    for attempt in 0..ATTEMPTS {
        let _ = remove(directory, &temporary_name(&compressed, attempt));
    }
    result
}

fn temporary_name(compressed: &str, attempt: usize) -> String {
    format!(".{compressed}.{attempt}")
}

/// Makes the temporary file, or returns `None` if that was attempted too often and never finished.
fn make_temporary(directory: &OwnedFd, compressed: &str) -> Result<Option<(String, OwnedFd)>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for attempt in 0..ATTEMPTS {
        let name = temporary_name(compressed, attempt);
        match openat(directory, &name, flags | OFlags::CREATE | OFlags::EXCL, MODE) {
            Ok(file) => {
                fchmod(&file, MODE)?;
                return Ok(Some((name, file)));
            }
            // A process that was killed, perhaps by this archive, left it. Only its name is kept,
            // as a mark.
            Err(Errno::EXIST) => {
                if let Ok(left) = file::open_own(directory, &name, flags | OFlags::NONBLOCK) {
                    let _ = ftruncate(left, 0);
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

fn remove(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Writes the compressed form, reads it back, and syncs it.
fn write_compressed(
    name: &str,
    plain: rustix::fd::BorrowedFd<'_>,
    target: rustix::fd::BorrowedFd<'_>,
) -> Result<(), CompressError> {
    let own = || name.to_owned();
    let (mut read_error, mut write_error) = (None, None);
    let source = Tolerant { fd: plain, offset: 0, error: &mut read_error };
    let drain = Tolerant { fd: target, offset: 0, error: &mut write_error };
    compress(source, drain, CompressionLevel::Fastest);
    if let Some(source) = read_error {
        return Err(CompressError::Read { name: own(), source });
    }
    if let Some(source) = write_error {
        return Err(CompressError::Write { name: own(), source });
    }
    if !reads_back(plain, target).map_err(|source| CompressError::Write { name: own(), source })? {
        return Err(CompressError::Differs { name: own() });
    }
    match fsync(target) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(CompressError::Write { name: own(), source: errno.into() }),
    }
}

/// Returns whether the compressed bytes unpack to the plain ones.
fn reads_back(plain: rustix::fd::BorrowedFd<'_>, target: rustix::fd::BorrowedFd<'_>) -> io::Result<bool> {
    let (mut plain_error, mut target_error) = (None, None);
    let mut plain = Tolerant { fd: plain, offset: 0, error: &mut plain_error };
    let compressed = Tolerant { fd: target, offset: 0, error: &mut target_error };
    let Ok(mut decoder) = StreamingDecoder::new(compressed) else { return Ok(false) };
    let (mut expected, mut found) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let n = fill(&mut plain, &mut expected)?;
        let Ok(m) = fill(&mut decoder, &mut found) else { return Ok(false) };
        if expected.get(..n) != found.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            break;
        }
    }
    drop(decoder);
    plain_error.or(target_error).map_or(Ok(true), Err)
}

/// Reads until the buffer is full or no bytes are left.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled: usize = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match source.read(rest)? {
            0 => break,
            n => filled = filled.saturating_add(n),
        }
    }
    Ok(filled)
}

/// A file that never fails: after an error it appears to be at its end, or discards writes, and the
/// error is kept.
///
/// The compressor would panic at an error.
struct Tolerant<'a> {
    fd: rustix::fd::BorrowedFd<'a>,
    offset: u64,
    error: &'a mut Option<io::Error>,
}

impl Read for Tolerant<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.error.is_none() {
            match rustix::io::pread(self.fd, &mut *buffer, self.offset) {
                Ok(n) => {
                    self.offset = self.offset.saturating_add(u64::try_from(n).unwrap_or(0));
                    return Ok(n);
                }
                Err(Errno::INTR) => {}
                Err(errno) => *self.error = Some(errno.into()),
            }
        }
        Ok(0)
    }
}

impl Write for Tolerant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.error.is_none() {
            match rustix::io::pwrite(self.fd, bytes, self.offset) {
                Ok(n) if n > 0 || bytes.is_empty() => {
                    self.offset = self.offset.saturating_add(u64::try_from(n).unwrap_or(0));
                    return Ok(n);
                }
                Ok(_) => *self.error = Some(io::ErrorKind::WriteZero.into()),
                Err(Errno::INTR) => {}
                Err(errno) => *self.error = Some(errno.into()),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;

    const NAME: &str = "@400000006b00d4d2075bcd15.s";
    const OLDER: &str = "@400000006b00d4d1075bcd15.u";

    fn directory(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn decompress(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        StreamingDecoder::new(fs::File::open(path).unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn archives_are_replaced_by_their_compressed_forms_and_nothing_else_is() {
        let temp = tempfile::tempdir().unwrap();
        let lines = b"2026-11-20 23:34:05.123456789  a line like many others\n".repeat(20_000);
        fs::write(temp.path().join(NAME), &lines).unwrap();
        fs::write(temp.path().join(OLDER), b"").unwrap();
        for other in ["current", "state", "lock", "notes"] {
            fs::write(temp.path().join(other), other).unwrap();
        }
        compress_all(&directory(temp.path())).unwrap();
        let (compressed, older) = (format!("{NAME}.zst"), format!("{OLDER}.zst"));
        assert_eq!(names(temp.path()), [older.as_str(), &compressed, "current", "lock", "notes", "state"]);
        assert!(decompress(&temp.path().join(&compressed)) == lines);
        assert_eq!(decompress(&temp.path().join(older)), b"");
        let size = fs::metadata(temp.path().join(compressed)).unwrap().len();
        assert!(size < lines.len() as u64 / 10, "{size} bytes");
    }

    #[test]
    fn of_an_archive_in_both_forms_the_plain_one_goes() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(NAME), b"plain").unwrap();
        fs::write(temp.path().join(format!("{NAME}.zst")), b"as it was").unwrap();
        compress_all(&directory(temp.path())).unwrap();
        assert_eq!(names(temp.path()), [format!("{NAME}.zst")]);
        assert_eq!(fs::read(temp.path().join(format!("{NAME}.zst"))).unwrap(), b"as it was");
    }

    #[test]
    fn work_that_was_cut_short_is_begun_again_and_not_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(NAME), b"plain\n").unwrap();
        let compressed = format!("{NAME}.zst");
        for attempt in 0..ATTEMPTS {
            fs::write(temp.path().join(temporary_name(&compressed, attempt)), b"half").unwrap();
        }
        compress_all(&directory(temp.path())).unwrap();
        assert_eq!(fs::read(temp.path().join(NAME)).unwrap(), b"plain\n", "given up");
        assert_eq!(fs::metadata(temp.path().join(temporary_name(&compressed, 0))).unwrap().len(), 0);
        fs::remove_file(temp.path().join(temporary_name(&compressed, 1))).unwrap();
        compress_all(&directory(temp.path())).unwrap();
        assert_eq!(names(temp.path()), [compressed.as_str()]);
        assert_eq!(decompress(&temp.path().join(compressed)), b"plain\n");
    }

    #[test]
    fn an_archive_that_cannot_be_compressed_stays_and_is_reported_once() {
        let temp = tempfile::tempdir().unwrap();
        // A directory in place of an archive can be opened but not read.
        fs::create_dir(temp.path().join(OLDER)).unwrap();
        fs::write(temp.path().join(NAME), b"plain\n").unwrap();
        let compression = Compression::new();
        compression.request(&directory(temp.path()));
        compression.wait(1);
        let complaint = compression.complaint().unwrap();
        assert_eq!(complaint, format!("cannot read `{OLDER}`: Is a directory; it stays as it is"));
        assert_eq!(names(temp.path()), [OLDER.to_owned(), format!("{NAME}.zst")]);
        compression.request(&directory(temp.path()));
        compression.wait(2);
        assert_eq!(compression.complaint(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_compressed_archive_reads_back(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), 1..500usize), 0..6),
        ) {
            let temp = tempfile::tempdir().unwrap();
            let bytes: Vec<u8> = parts.iter().flat_map(|(part, times)| part.repeat(*times)).collect();
            fs::write(temp.path().join(NAME), &bytes).unwrap();
            compress_all(&directory(temp.path())).unwrap();
            let compressed = temp.path().join(format!("{NAME}.zst"));
            prop_assert!(decompress(&compressed) == bytes);
        }
    }
}
