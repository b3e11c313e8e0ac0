//! All access by root to directories that others own: opening a path there, finding a home, walking
//! a tree.
//!
//! *Lives here:* one resolver (`resolve`), one way to a home, one walk (`walk`). Nothing else
//! follows a link, crosses a mount or recurses where root works in directories of others.
//! `tests/only_here.rs` lists the callers that follow a whole path nevertheless, and why.
//!
//! *Does not live here:* what callers do with an opened file, and whose it should be.
//!
//! *May depend on it:* every crate that works below directories of others.
//!
//! The owner of a directory controls its entries at any time: links of either kind, mounts of the
//! owner's own mount namespace behind `/proc/PID/root`, trees without a bottom. So there are four
//! doors, and each holds the file that it found by a descriptor:
//!
//! | you have | you call | you get |
//! |---|---|---|
//! | a whole path, of a scandir or a slot say | [`by_path`] | a descriptor of what root may be led to there |
//! | a descriptor and a path below it | [`Resolver`]: [`Resolver::STRICT`] to change something, [`Resolver::READING`] to read | a descriptor, or which component was refused and why |
//! | the path of a home | [`OpenHome::open`], [`OpenHome::open_or_make`] | the home, whose it is, and who else could have led us there |
//! | a tree that is to go, to be given away, to be measured | [`Walker`]: `remove`, `empty`, `give`, `measure`, or a [`walk::Visitor`] of your own | what was done, and which mounts were left alone |
//!
//! Every file is opened without waiting, and root asks no file system that the owner of a directory
//! could have mounted. (One that the operator mounted, over a network for example, is waited for
//! like any other.) Processes without root's rights follow whole paths wherever they lead
//! ([`by_path`]). A walk may take long, so it asks a closure between two entries whether to go on.
//!
//! **Source:** openat2(2), statx(2), `proc_pid_mountinfo(5)`, `proc_pid_fdinfo(5)`.
#![forbid(unsafe_code)]

pub mod by_path;
mod held;
pub mod home;
pub mod look;
pub mod resolve;
mod trusted;
pub mod walk;

pub use gatevisor_sys::Errno;
pub use home::{Authority, HomeError, OpenHome, Untrusted};
pub use look::{FileInfo, look};
pub use resolve::mounts_within;
pub use resolve::{Links, Mounts, RefusalReason, ResolveError, Resolver};
pub use trusted::is_trusted;
pub use walk::Walker;
