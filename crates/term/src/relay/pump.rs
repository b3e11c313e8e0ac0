//! The relay: between the user's terminal and the pty.
//!
//! *Lives here:* its loop: copying, passing on signals and sizes, stopping with the command, ending
//! after it.
//! *Does not live here:* the terminal's modes (`user`), the command (`monitor`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::signal::{
    self, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
    SIGUSR2, SIGWINCH, SignalFd,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::process::{Pid, Signal, WaitOptions, kill_current_process_group, waitpid};
use rustix::termios::tcsetwinsize;

use super::messages::{RelayEnd, RelayOrder, RelayReport};
use super::user::UserTerminal;

/// Signals that the relay handles.
pub(super) const SIGNALS: &[i32] = &[
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT,
    SIGWINCH,
];
/// Bytes that are copied at a time.
const BLOCK: usize = 16 << 10;
/// The most bytes of output that are shown after the command's end, because another process may go
/// on writing for ever.
const LAST_OUTPUT: usize = 1 << 20;
/// How long the terminal may accept nothing before the last output is given up.
const LAST_OUTPUT_LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Bytes to be copied in one direction.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    /// Whether the source has no more bytes.
    ended: bool,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads available bytes; returns whether there were any.
    fn fill(&mut self, from: impl AsFd) -> bool {
        let mut block = [0; BLOCK];
        match read(from, &mut block) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                self.bytes.extend_from_slice(block.get(..n).unwrap_or_default());
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.ended = true,
        }
        false
    }

    /// Writes the bytes; drops them if they cannot be written any more.
    fn empty(&mut self, into: impl AsFd) {
        match write(into, &self.bytes) {
            Ok(n) => drop(self.bytes.drain(..n.min(self.bytes.len()))),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.bytes.clear(),
        }
    }
}

/// The relay.
pub(super) struct Pump {
    user: UserTerminal,
    master: OwnedFd,
    monitor: OwnedFd,
    monitor_pid: Pid,
    signals: SignalFd,
    typed: Flow,
    shown: Flow,
    /// Whether the command uses the terminal when we have it.
    is_interactive: bool,
}

impl Pump {
    /// Returns the relay between two terminals.
    pub fn new(user: UserTerminal, master: OwnedFd, monitor: OwnedFd, monitor_pid: Pid) -> io::Result<Self> {
        let signals = SignalFd::new(SIGNALS)?;
        let (typed, shown) = (Flow::default(), Flow::default());
        Ok(Self { user, master, monitor, monitor_pid, signals, typed, shown, is_interactive: false })
    }

    /// Copies until the command has ended, and returns how it ended.
    pub fn run(mut self, begins_in_foreground: bool) -> io::Result<RelayEnd> {
        self.is_interactive = self.user.is_whole();
        if begins_in_foreground {
            self.user.make_raw();
        }
        loop {
            self.wait()?;
            while let Some(number) = self.signals.next()? {
                self.take_signal(number);
            }
            match self.report() {
                None => {}
                Some(RelayReport::Stopped(number)) => self.command_stopped(number),
                Some(RelayReport::Ended(ended)) => {
                    self.show_the_rest();
                    self.user.restore();
                    while let Err(Errno::INTR) = waitpid(Some(self.monitor_pid), WaitOptions::empty()) {}
                    return Ok(ended);
                }
            }
        }
    }

    /// Waits for an event, and copies.
    fn wait(&mut self) -> io::Result<()> {
        let may_type = self.user.is_raw() && !self.typed.ended;
        let wanted = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let user = wanted(may_type && self.typed.is_empty(), PollFlags::IN)
            | wanted(!self.shown.is_empty(), PollFlags::OUT);
        let pty = wanted(self.shown.is_empty() && !self.shown.ended, PollFlags::IN)
            | wanted(!self.typed.is_empty(), PollFlags::OUT);
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.monitor, PollFlags::IN),
        ];
        // An unused descriptor would wake us again and again after its end.
        fds.extend((!user.is_empty()).then(|| PollFd::from_borrowed_fd(self.user.as_fd(), user)));
        fds.extend((!pty.is_empty()).then(|| PollFd::new(&self.master, pty)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(fds);
        if may_type && self.typed.is_empty() {
            self.typed.fill(&self.user);
        }
        if !self.typed.is_empty() {
            self.typed.empty(&self.master);
        }
        if self.shown.is_empty() && !self.shown.ended {
            self.shown.fill(&self.master);
        }
        if !self.shown.is_empty() {
            self.shown.empty(&self.user);
        }
        Ok(())
    }

    /// Returns the monitor's message, if there is one; the monitor's end counts as the command's.
    fn report(&self) -> Option<RelayReport> {
        let mut fds = [PollFd::new(&self.monitor, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let said = matches!(poll(&mut fds, Some(&now)), Ok(1..));
        said.then(|| RelayReport::receive(&self.monitor).unwrap_or(RelayReport::Ended(RelayEnd::Exited(111))))
    }

    fn take_signal(&mut self, number: i32) {
        match number {
            SIGWINCH => {
                if let Some(size) = self.user.size() {
                    let _ = tcsetwinsize(&self.master, size);
                }
                // The pty signals only its foreground, where the command may not be, or not yet.
                RelayOrder::Signal(number).send(&self.monitor);
            }
            SIGCONT => self.go_on(),
            // These come from writing to a terminal or from our being in the background, which does
            // not concern the command.
            SIGPIPE | SIGTTIN | SIGTTOU => {}
            other => RelayOrder::Signal(other).send(&self.monitor),
        }
    }

    /// The command was stopped, because it wants the terminal, or because it shall stop and we with
    /// it.
    fn command_stopped(&mut self, number: i32) {
        let wants_terminal = matches!(number, SIGTTIN | SIGTTOU);
        self.is_interactive |= wants_terminal;
        if wants_terminal && self.user.is_foreground() {
            return self.go_on();
        }
        self.show_the_rest();
        self.user.restore();
        stop_all(if wants_terminal { number } else { SIGTSTP });
        // The kernel does not stop a group that nobody could continue, so the command is not
        // stopped then, either.
        if wants_terminal && !self.user.is_foreground() {
            self.user.look_again();
            return RelayOrder::Foreground.send(&self.monitor);
        }
        self.go_on();
    }

    /// Lets the command continue, with the terminal if we have it.
    fn go_on(&mut self) {
        self.user.look_again();
        self.take_signal(SIGWINCH);
        let has_terminal = self.is_interactive && self.user.is_foreground();
        if has_terminal {
            self.user.make_raw();
            RelayOrder::Foreground.send(&self.monitor);
        } else {
            RelayOrder::Background.send(&self.monitor);
        }
    }

    /// Shows the command's output that is still in the pty.
    fn show_the_rest(&mut self) {
        let mut left = LAST_OUTPUT;
        loop {
            while !self.shown.is_empty() {
                let mut fds = [PollFd::from_borrowed_fd(self.user.as_fd(), PollFlags::OUT)];
                match poll(&mut fds, Some(&LAST_OUTPUT_LIMIT)) {
                    Ok(0) => return self.shown.bytes.clear(),
                    Err(Errno::INTR) => {}
                    _ => self.shown.empty(&self.user),
                }
            }
            if left == 0 || !self.shown.fill(&self.master) {
                return;
            }
            left = left.saturating_sub(self.shown.bytes.len());
        }
    }
}

/// Stops this process and its whole job, as a terminal would, until somebody continues it.
fn stop_all(number: i32) {
    if let Some(stop) = Signal::from_named_raw(number) {
        let _ = kill_current_process_group(stop);
    }
    let _ = signal::unblock(&[number]);
    let _ = signal::block(&[number]);
}
