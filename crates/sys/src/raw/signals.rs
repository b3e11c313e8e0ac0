//! Signals: masks, dispositions, and a descriptor that delivers them.
//!
//! *Lives here:* what std and rustix do not offer of these.
//! *Does not live here:* the meaning of a signal.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::last_errno;

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // JUSTIFICATION: sigset_t is opaque and only libc fills it.
    // SAFETY: sigemptyset initialises the whole set before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Blocks every signal in this thread, and resets those in `defaults` to their default action.
pub(crate) fn block_all(defaults: &[i32]) -> Result<(), Errno> {
    // JUSTIFICATION: rustix offers no sigprocmask in its stable API.
    // SAFETY: the set is initialised by sigfillset; SIG_DFL is a valid disposition for each signal.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) < 0 {
            return Err(last_errno());
        }
        for &signal in defaults {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    Ok(())
}

/// Empties this thread's signal mask.
pub(crate) fn unblock_all() {
    let set = signal_set(&[]);
    // JUSTIFICATION: as above.
    // SAFETY: the set is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// What [`signals_of_a_new_program`] changed.
pub(crate) struct SignalsBefore {
    pipe: libc::sighandler_t,
    mask: libc::sigset_t,
}

/// Gives this process the signals that a program expects at its start. `SIGPIPE`, which Rust's
/// runtime ignores, has its default action, and no signal is blocked unless `keeps_mask`. Other
/// signals that were ignored when this process started stay ignored.
pub(crate) fn signals_of_a_new_program(keeps_mask: bool) -> SignalsBefore {
    let mut mask = signal_set(&[]);
    let empty = signal_set(&[]);
    let new = if keeps_mask { std::ptr::null() } else { &raw const empty };
    // JUSTIFICATION: std and rustix cannot change a disposition, and std's `Command` is the only
    // one to change a mask.
    // SAFETY: both sets are initialised, and a null pointer asks for the mask only; SIG_DFL is a
    // valid disposition.
    let pipe = unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, new, &raw mut mask);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL)
    };
    SignalsBefore { pipe, mask }
}

/// Restores what [`signals_of_a_new_program`] changed.
pub(crate) fn put_signals_back(before: &SignalsBefore) {
    // JUSTIFICATION: as above.
    // SAFETY: the disposition is the one that signal(2) returned, and the set the one that was in
    // force.
    unsafe {
        libc::signal(libc::SIGPIPE, before.pipe);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before.mask, std::ptr::null_mut());
    }
}

/// Blocks or unblocks these signals in this thread. The others stay as they are.
pub(crate) fn change_mask(signals: &[i32], blocked: bool) -> Result<(), Errno> {
    let set = signal_set(signals);
    let how = if blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // JUSTIFICATION: as above.
    // SAFETY: the set is initialised.
    let result = unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Sets the action of `signal` to ignore or default.
pub(crate) fn set_ignored(signal: i32, ignored: bool) {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // JUSTIFICATION: std and rustix cannot change a disposition.
    // SAFETY: both actions are valid for every catchable signal; no handler is installed.
    unsafe { libc::signal(signal, action) };
}

/// Blocks `signals` and returns a descriptor that delivers them.
pub(crate) fn signalfd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let set = signal_set(signals);
    // JUSTIFICATION: rustix has no signalfd.
    // SAFETY: the set is initialised; the returned descriptor is fresh and owned by nobody else.
    unsafe {
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(last_errno());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Reads one signal number from a signalfd, if one is pending.
pub(crate) fn read_signal(fd: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // JUSTIFICATION: the record's layout is known to libc only.
    // SAFETY: the buffer has the record's size; it is read only after a full record was written.
    unsafe {
        let n = libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size);
        if n < 0 {
            let errno = last_errno();
            return if errno == Errno::AGAIN || errno == Errno::INTR { Ok(None) } else { Err(errno) };
        }
        if n.unsigned_abs() != size {
            return Ok(None);
        }
        Ok(i32::try_from(info.assume_init().ssi_signo).ok())
    }
}
