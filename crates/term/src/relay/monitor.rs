//! The leader of the pty's session: the command's parent.
//!
//! If the command's parent were in another session, its terminal could not stop it, because the
//! kernel stops no orphaned process group. The monitor runs as the relay's user, receives no signal
//! that a terminal could send, and has no access to the user's terminal.
//!
//! *Lives here:* its loop, and the actions of the command's process before it returns to the
//! caller.

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::process::{self, Forked};
use gatevisor_sys::signal::{self, SIGCHLD, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, ioctl_tiocsctty, kill_process_group, setpgid, setsid, waitpid,
};
use rustix::termios::tcsetpgrp;

use super::messages::{RelayEnd, RelayOrder, RelayReport};
use super::user;

/// Becomes the monitor; returns only in the command's process.
pub(super) fn run(slave: OwnedFd, relay: OwnedFd, foreground: bool) -> std::io::Result<()> {
    // Errors of the caller are not the monitor's to report. Without a session there is no command.
    let begun = begin(&slave, foreground);
    match begun {
        Ok(Forked::Child) => Ok(()),
        Ok(Forked::Parent(command)) => {
            Monitor { slave, relay, command }.serve();
            process::exit_now(0)
        }
        Err(_) => {
            RelayReport::Ended(RelayEnd::Exited(111)).send(&relay);
            process::exit_now(0)
        }
    }
}

fn begin(slave: &OwnedFd, foreground: bool) -> Result<Forked, Errno> {
    signal::block_all(&[])?;
    setsid()?;
    ioctl_tiocsctty(slave)?;
    let forked = process::fork()?;
    match forked {
        Forked::Child => become_command(slave, foreground)?,
        Forked::Parent(command) => {
            // Both processes do this; it does not matter which is first.
            let _ = setpgid(Some(command), Some(command));
            let_go_of_stdio();
        }
    }
    Ok(forked)
}

fn become_command(slave: &OwnedFd, foreground: bool) -> Result<(), Errno> {
    setpgid(None, None)?;
    if foreground {
        // All signals are blocked, so the terminal does not stop us for being in the background.
        tcsetpgrp(slave, getpid())?;
    }
    user::replace_terminals(slave)?;
    signal::unblock_all();
    Ok(())
}

/// The command may write to a pipe, whose reader must see its end.
fn let_go_of_stdio() {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(null) = openat(CWD, c"/dev/null", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

struct Monitor {
    slave: OwnedFd,
    relay: OwnedFd,
    command: Pid,
}

impl Monitor {
    /// Serves the command and the relay until one of them is over.
    fn serve(&self) {
        let Ok(signals) = SignalFd::new(&[SIGCHLD]) else { return self.hang_up() };
        loop {
            if let Some(ended) = self.look_at_command() {
                // The processes left in the foreground receive no SIGHUP at the end of this
                // session.
                let _ = tcsetpgrp(&self.slave, getpid());
                return RelayReport::Ended(ended).send(&self.relay);
            }
            let mut fds = [
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                PollFd::new(&self.relay, PollFlags::IN),
            ];
            let _ = poll(&mut fds, None);
            let [_, relay] = fds.map(|fd| !fd.revents().is_empty());
            while let Ok(Some(_)) = signals.next() {}
            if relay {
                match RelayOrder::receive(&self.relay) {
                    Some(order) => self.obey(order),
                    None => return self.hang_up(),
                }
            }
        }
    }

    /// Returns how the command ended, if it did, and reports that it stopped.
    fn look_at_command(&self) -> Option<RelayEnd> {
        loop {
            match waitpid(Some(self.command), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((_, status))) => match status.stopping_signal() {
                    Some(number) => RelayReport::Stopped(number).send(&self.relay),
                    None => return RelayEnd::of(status),
                },
                Err(Errno::INTR) => {}
                Ok(None) => return None,
                // Its end cannot be found out any more.
                Err(_) => return Some(RelayEnd::Exited(111)),
            }
        }
    }

    fn obey(&self, order: RelayOrder) {
        match order {
            RelayOrder::Foreground => {
                let _ = tcsetpgrp(&self.slave, self.command);
                self.send(signal::SIGCONT);
            }
            RelayOrder::Background => {
                let _ = tcsetpgrp(&self.slave, getpid());
                self.send(signal::SIGCONT);
            }
            RelayOrder::Signal(number) => self.send(number),
        }
    }

    /// Acts like a terminal that is gone.
    fn hang_up(&self) {
        self.send(signal::SIGHUP);
        self.send(signal::SIGCONT);
    }

    /// Sends a signal to the command's group, whose number is the command's own until it is reaped.
    fn send(&self, number: i32) {
        if let Some(number) = Signal::from_named_raw(number) {
            let _ = kill_process_group(self.command, number);
        }
    }
}
