//! The files of a log directory that hold lines, and their forms.
//!
//! *Lives here:* the names of archives, including compressed ones, and listing the present ones.
//! *Does not live here:* their order beside `current`, and their contents.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use gatevisor_wire::log_directory::{Archive, COMPRESSED};

/// The forms in which an archive exists. While it is being compressed, it exists in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    plain: bool,
    compressed: bool,
}

/// The archives of a directory, the oldest first.
pub(crate) type Archives = BTreeMap<Archive, Forms>;

/// Distinguishes a file from all others, as long as it is open.
pub(crate) type Inode = (u64, u64);

/// The form of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The lines themselves.
    Plain,
    /// Zstandard frames.
    Compressed,
}

/// An open file of the directory.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    pub file: OwnedFd,
    pub inode: Inode,
    pub form: Form,
    /// Whether it will not be found under another name, because it was opened by its archive's name
    /// or has left the directory.
    pub is_archive: bool,
}

/// Returns the archives in a directory.
pub(crate) fn list(directory: &OwnedFd) -> Result<Archives, Errno> {
    let mut found = Archives::new();
    let entries = match Dir::read_from(directory) {
        // The directory was removed. The one that we hold is empty.
        Err(Errno::NOENT) => return Ok(found),
        other => other?,
    };
    for entry in entries {
        let entry = match entry {
            Err(Errno::NOENT) => break,
            other => other?,
        };
        let name = entry.file_name().to_bytes();
        let (stem, form) = match name.strip_suffix(COMPRESSED.as_bytes()) {
            Some(stem) => (stem, Form::Compressed),
            None => (name, Form::Plain),
        };
        if let Some(archive) = Archive::parse(stem) {
            let forms = found.entry(archive).or_default();
            match form {
                Form::Plain => forms.plain = true,
                Form::Compressed => forms.compressed = true,
            }
        }
    }
    Ok(found)
}

/// Opens an archive in its present form, or returns `None` if it was deleted.
pub(crate) fn open_archive(directory: impl AsFd, archive: Archive) -> Result<Option<OpenedFile>, Errno> {
    let name = archive.name();
    // The plain form is tried first, because a compressor renames its result into place before it
    // removes the plain form.
    if let Some(opened) = open(&directory, &name)? {
        return Ok(Some(OpenedFile { is_archive: true, ..opened }));
    }
    let opened = open(&directory, format!("{name}{COMPRESSED}"))?;
    Ok(opened.map(|opened| OpenedFile { is_archive: true, form: Form::Compressed, ..opened }))
}

/// Opens a file, or returns `None` if there is none with that name.
pub(crate) fn open(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<OpenedFile>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Some(file) = found(openat(directory, name, flags, Mode::empty()))? else { return Ok(None) };
    let stat = fstat(&file)?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    let inode = (stat.st_dev, stat.st_ino);
    Ok(regular.then_some(OpenedFile { file, inode, form: Form::Plain, is_archive: false }))
}

/// Turns "not found" into `None`; a symbolic link in place of a file counts as not found, too.
pub(crate) fn found<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
