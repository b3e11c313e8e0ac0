//! Every `unsafe` block of the project.
//!
//! *Lives here:* exec, fork, descriptor adoption, users; in its submodules: the child between clone
//! and exec, signals, mappings.
//! *Does not live here:* anything that rustix or std offer safely.
//!
//! Each block says why nothing safe does this (**JUSTIFICATION**) and why it is sound (**SAFETY**).
#![allow(unsafe_code)]

mod child;
mod mapping;
mod signals;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

pub use child::Environment;
#[cfg(test)]
pub(crate) use child::copy_everything;
pub(crate) use child::{
    BLOCKED, ChildMemory, ChildPlan, EXTRAS, LOCKED, REPORT_LEN, Stack, UNSHARED, null_terminated, stack,
    step,
};
pub(crate) use mapping::Mapping;
pub(crate) use signals::{
    block_all, change_mask, put_signals_back, read_signal, set_ignored, signalfd, signals_of_a_new_program,
    unblock_all,
};

/// Returns the last error of a libc call as an [`Errno`].
fn last_errno() -> Errno {
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Returns the path with which this process was executed, as the caller of exec wrote it.
pub(crate) fn executed_path() -> Option<CString> {
    // JUSTIFICATION: std asks /proc, which need not be there; rustix has no safe call for it
    // either. SAFETY: the kernel's value is null or a text that ends with a zero byte and stays as
    // long as the process.
    let text = unsafe {
        let address = libc::getauxval(libc::AT_EXECFN);
        (address != 0)
            .then(|| CStr::from_ptr(std::ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0))))
    };
    text.map(CStr::to_owned)
}

/// Replaces this process by `path`; returns only if that fails, with the reason.
pub(crate) fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let argv = null_terminated(argv);
    let envp = null_terminated(envp);
    // JUSTIFICATION: std's `CommandExt::exec` resets signal masks and needs a `Command`; rustix has
    // no stable exec.
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

/// Forks; returns 0 in the child.
pub(crate) fn fork() -> Result<i32, Errno> {
    // JUSTIFICATION: neither std nor rustix's stable API offers fork.
    // SAFETY: callers are single-threaded (documented on the public function), so the child may run
    // ordinary code.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(last_errno()) } else { Ok(pid) }
}

/// Ends this process at once, without running destructors.
pub(crate) fn exit_now(code: i32) -> ! {
    // JUSTIFICATION: std::process::exit would flush and run handlers that belong to the parent.
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of descriptor `number`, which must be open.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // JUSTIFICATION: a descriptor inherited through exec has no owner in std's eyes.
    // SAFETY: F_GETFD only reads; when it succeeds the descriptor is open, and the caller promises
    // to adopt it once.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Closes all descriptors from `first` to `last`, before the end of a process that runs nothing
/// else. Where the kernel cannot do that at once, before 5.9, it covers only numbers below the
/// limit of open files.
pub(crate) fn close_from_to(first: u32, last: u32) {
    // JUSTIFICATION: neither std nor rustix offers close_range, and both refuse descriptors without
    // an owner.
    // SAFETY: the only caller is a child that drops none of the owners of what it closes here, and
    // exits without destructors. So no owner uses or closes its descriptor afterwards.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        let limit = u32::try_from(libc::sysconf(libc::_SC_OPEN_MAX).clamp(1, 1 << 20)).unwrap_or(1);
        for number in first..=last.min(limit.saturating_sub(1)) {
            libc::close(number.cast_signed());
        }
    }
}

/// Sets the close-on-exec flag of every descriptor from `first` on. Before kernel 5.11, it covers
/// only numbers below the limit of open files.
pub(crate) fn close_on_exec_from(first: u32) {
    // JUSTIFICATION: neither std nor rustix offers close_range, and both refuse descriptors without
    // an owner.
    // SAFETY: with this flag nothing is closed, so no owner loses its descriptor.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(0, 1 << 20);
        for number in i32::try_from(first).unwrap_or(i32::MAX)..i32::try_from(limit).unwrap_or(0) {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Gives up the controlling terminal, if there is one.
pub(crate) fn give_up_terminal() {
    // JUSTIFICATION: rustix offers the request to take a terminal, but not the one to give it up.
    // SAFETY: the request has no argument; on anything but our terminal it fails.
    unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCNOTTY) };
}

/// Returns the number of a process's session (0 asks for this process's); 0 if its leader cannot be
/// seen from here.
pub(crate) fn session(pid: i32) -> Result<i32, Errno> {
    // JUSTIFICATION: rustix assumes that a number is never 0. SAFETY: the call accesses no memory
    // of ours.
    let session = unsafe { libc::getsid(pid) };
    if session < 0 { Err(last_errno()) } else { Ok(session) }
}

/// Returns the number of this process's group; 0 if its leader cannot be seen from here.
pub(crate) fn own_group() -> i32 {
    // JUSTIFICATION: as above. SAFETY: the call accesses no memory of ours, and cannot fail.
    unsafe { libc::getpgrp() }
}

/// Tests whether a process can copy the low part of a shared table of descriptors.
///
/// If this process shares its table with nobody, this changes nothing.
pub(crate) fn try_unsharing() -> Result<(), Errno> {
    // JUSTIFICATION: as above.
    // SAFETY: the range holds the one number that no descriptor can have.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Replaces the supplementary groups, the group and the user of the whole process.
pub(crate) fn assume(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // JUSTIFICATION: rustix changes the calling thread only; libc changes every thread.
    // SAFETY: `groups` is a valid array of its length; the calls have no other preconditions.
    unsafe {
        if libc::setgroups(groups.len(), groups.as_ptr()) < 0
            || libc::setgid(gid) < 0
            || libc::setuid(uid) < 0
        {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Receives one datagram. Returns its length as it was sent, and the process that sent it: 0 if
/// that process has no number here.
///
/// The kernel discards descriptors that come with it, because there is room only for the sender.
pub(crate) fn receive_with_sender(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Option<i32>), Errno> {
    const SPACE: usize = 8;
    let mut control = [0_u64; SPACE];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // JUSTIFICATION: rustix assumes that the sender's number is never 0, but the kernel gives 0 for
    // a process of another PID namespace. SAFETY: `message` points to `part` and `control`, which
    // outlive the call, with their sizes; `CMSG_*` read within `control`, which is aligned for a
    // header, and the payload is read unaligned, if it is as long as a `ucred`.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(CREDENTIALS) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
        let length = libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags);
        let length = usize::try_from(length).map_err(|_| last_errno())?;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_sender = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_CREDENTIALS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(CREDENTIALS) as usize;
        let sender = is_sender.then(|| libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned().pid);
        Ok((length, sender))
    }
}

/// Bytes of the kernel's record about a sender.
#[expect(clippy::cast_possible_truncation, reason = "it has 12 bytes")]
const CREDENTIALS: u32 = size_of::<libc::ucred>() as u32;
