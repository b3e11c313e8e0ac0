//! A separate terminal for a program that runs as another user.
//!
//! A process that has a terminal open may read what is typed there. A process with the terminal as
//! its controlling terminal may type into it (`TIOCSTI`), and so into root's shell, once the
//! program is over. So a program that root runs as the agent gets a pty in a session of its own,
//! and no access to root's terminal. Three processes take part:
//!
//! ```text
//! relay        this process: keeps its user and the terminal, copies both ways (`pump`)
//!   monitor    leads the session of the pty, so that the command can be stopped (`monitor`)
//!     command  returns from [`leave_terminal`], in a process group of its own
//! ```
//!
//! *Lives here:* deciding whether there is a terminal to give up, and the three processes.
//! *Does not live here:* becoming another user, executing.
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

/// Gives up the terminal of this process, if it has one, to a relaying process.
///
/// Returns in a process that has a pty instead, owned by `owner`: it is the controlling terminal,
/// and replaces each of the three standard descriptors that was a terminal. Pipes and files stay,
/// and nothing else stays open at exec. The calling process ends in the same way as that process.
/// Without a terminal, only descriptors that would stay open at exec are affected.
///
/// Call it only while the process has one thread.
///
/// # Errors
/// There is a terminal, but no pty or no process can be made.
pub fn leave_terminal(owner: u32) -> io::Result<()> {
    process::forget_inherited_fds();
    let Some(user) = UserTerminal::open() else { return Ok(()) };
    let pty = Pty::open(&user, owner)?;
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    signal::restore(signal::SIGCHLD);
    // From here on, no signal to us is lost, and none ends us before the terminal is restored.
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
    /// Opens a pty with the settings of the user's terminal.
    fn open(user: &UserTerminal, owner: u32) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty())?;
        // The command may open its terminal by name. If the owner cannot be changed, it still has
        // the descriptors.
        let _ = rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>);
        if let Some(mut modes) = user.modes().cloned() {
            if !user.is_whole() {
                // The user's terminal goes on processing output, for other programs that write to
                // it.
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
