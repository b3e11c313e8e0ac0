//! Every way that root goes below what others own: opening a path there, finding a home, walking a tree.
//!
//! *Lives here:* one resolver, one way to a home, one walk. Where root works on what others own nothing else follows a link,
//! crosses a mount or recurses; `tests/only_here.rs` lists who goes where a whole path leads all the same, and why.
//! *Does not live here:* what is done with what was opened, and whose it should be.
//!
//! *May depend on it:* every crate that goes below what others own.
//!
//! Whoever owns a directory decides what is in it, at any time: links of either kind, mounts of its own name space behind
//! `/proc/PID/root`, trees without a bottom. So there are four doors, and each holds what it found by a descriptor:
//!
//! | you have | you call | you get |
//! |---|---|---|
//! | a whole path, of a scandir or a slot say | [`by_path`] | a descriptor of what root may be led to there |
//! | a descriptor and a path below it | [`Resolver`]: [`Resolver::STRICT`] to change something, [`Resolver::READING`] to read | a descriptor, or which component was refused and why |
//! | the path of a home | [`OpenHome::open`], [`OpenHome::open_or_make`] | the home, whose it is, and who else could have led us there |
//! | a tree that is to go, to be given away, to be measured | [`Walker`]: `remove`, `empty`, `give`, `measure`, or a [`walk::Visitor`] of your own | what was done, and which mounts were left alone |
//!
//! What is opened is opened without waiting, and root asks no file system that the owner of a directory could have mounted;
//! one of the operator's, over a network say, is waited for like any other. Who is not root goes by whole paths wherever they
//! lead ([`by_path`]). A walk may take long, so it asks a closure between two entries whether to go on.
//!
//! **Source:** openat2(2), statx(2), `proc_pid_mountinfo(5)`, `proc_pid_fdinfo(5)`.
#![forbid(unsafe_code)]

pub mod by_path;
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
pub use walk::Walker;
