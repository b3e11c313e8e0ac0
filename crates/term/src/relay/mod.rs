//! A terminal of its own for what runs as somebody else.
//!
//! Whoever has a terminal open may read what is typed there, and whose controlling terminal it is may type into it
//! (`TIOCSTI`): into root's shell, once the program is over. So what root runs as the agent gets a pty in a session of
//! its own, and nothing of root's terminal. Three processes take part:
//!
//! ```text
//! relay      this process: stays who it is, has the terminal, copies in both directions     (`pump`)
//!   monitor  leads the session of the pty, so that the command can be stopped and continued (`monitor`)
//!     command  returns from [`leave_terminal`], in a process group of its own
//! ```
//!
//! *Lives here:* deciding whether there is a terminal to leave, and the three processes. *Does not live here:* becoming
//! another user, executing.
//!
//! **Source:** setsid(2), tty(4), `ioctl_tty(2)`; POSIX, *General Terminal Interface*.

mod messages;
mod monitor;
mod pump;
mod user;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::process::{self, Forked};
use gatevisor_sys::signal;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, tcsetattr, tcsetwinsize};

use messages::RelayEnd;
use pump::Pump;
use user::UserTerminal;

/// Leaves the terminal that this process has, if it has one, to a process that relays.
///
/// Returns in a process that has a pty instead, owned by `owner`, as its controlling terminal and in place of each of
/// the three standard descriptors that was a terminal; what is a pipe or a file stays what it is, and nothing else
/// stays open at exec. The process that called it ends as that one does. Without a terminal nothing happens but that.
///
/// Call it only while the process has one thread.
///
/// # Errors
/// There is a terminal, and no pty or no process can be had.
pub fn leave_terminal(owner: u32) -> io::Result<()> {
    process::forget_inherited_fds();
    let Some(user) = UserTerminal::open() else { return Ok(()) };
    let pty = Pty::open(&user, owner)?;
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    signal::restore(signal::SIGCHLD);
    // From here on nothing that is sent to us is lost, or ends us before the terminal is as it was.
    signal::block(pump::SIGNALS)?;
    let begins_in_foreground = user.is_whole() && user.is_foreground();
    match process::fork()? {
        Forked::Child => {
            drop((ours, pty.master, user));
            monitor::run(pty.slave, theirs, begins_in_foreground)
        }
        Forked::Parent(monitor) => {
            drop((theirs, pty.slave));
            let ended =
                Pump::new(user, pty.master, ours, monitor).and_then(|pump| pump.run(begins_in_foreground));
            ended.unwrap_or(RelayEnd::Exited(111)).end()
        }
    }
}

/// The two ends of a pty.
struct Pty {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Pty {
    /// Opens one that is set like the user's terminal.
    fn open(user: &UserTerminal, owner: u32) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty())?;
        // It opens its own terminal by name; where this is refused it has the descriptors all the same.
        let _ = rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>);
        if let Some(mut modes) = user.modes().cloned() {
            if !user.is_whole() {
                // The user's terminal goes on doing this, for whoever else writes to it.
                modes.output_modes.remove(OutputModes::OPOST);
            }
            tcsetattr(&slave, OptionalActions::Now, &modes)?;
        }
        if let Some(size) = user.size() {
            tcsetwinsize(&master, size)?;
        }
        rustix::io::ioctl_fionbio(master.as_fd(), true)?;
        Ok(Self { master, slave })
    }
}
