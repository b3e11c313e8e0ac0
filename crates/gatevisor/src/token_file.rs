//! Files that hold one token.
//!
//! *Lives here:* reading one that others may not read. *Does not live here:* what a token allows.

use std::io;
use std::path::Path;

use gatevisor_doctor::quote;
use gatevisor_gateways::files::read_opened;
use gatevisor_paths::by_path;
use gatevisor_wire::exit::error_chain;
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

/// The most bytes of a file with a token.
const TOKEN_BYTES: usize = 4096;

/// Who may read the file besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    Owner,
    /// Its group: a Secret of Kubernetes belongs to root and to the group of the pod.
    Group,
}

impl Readers {
    /// Returns the bits of a mode that must not be set, and the change that clears them.
    const fn forbidden(self) -> (u32, &'static str) {
        match self {
            Self::Owner => (0o077, "600"),
            Self::Group => (0o007, "o="),
        }
    }
}

/// Returns the token in a file, or why that cannot be used. The check is made on the open file, so
/// that it holds even if the file is replaced meanwhile.
pub fn read(path: &Path, readers: Readers) -> Result<String, String> {
    let unusable = |why: String| format!("cannot use the token in `{}`: {why}", path.display());
    let failed = |errno: Errno| unusable(error_chain(&io::Error::from(errno)));
    let file = by_path::open(path, OFlags::RDONLY).map_err(failed)?;
    let (bits, change) = readers.forbidden();
    if fstat(&file).map_err(failed)?.st_mode & bits != 0 {
        return Err(unusable(format!("others may read it; chmod {change} {}", quote(path))));
    }
    let bytes = read_opened(file, TOKEN_BYTES).map_err(|error| unusable(error_chain(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
    Ok(text.trim_end().to_owned())
}
