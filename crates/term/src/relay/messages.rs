//! The messages between the relay and the monitor.
//!
//! *Lives here:* the messages, and ending this process in the way in which another one ended.
//! *Does not live here:* when they are sent.

use std::os::fd::AsFd;

use gatevisor_sys::socket::recv_with_fds;
use gatevisor_sys::{process, signal};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, Rlimit, Signal, WaitStatus, getpid, kill_process, setrlimit};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelayEnd {
    /// By exiting with this code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl RelayEnd {
    /// Returns how a process ended, if it has ended.
    pub fn of(status: WaitStatus) -> Option<Self> {
        let code = |code: i32| Self::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
        status.exit_status().map(code).or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// Ends this process in the same way.
    pub fn end(self) -> ! {
        match self {
            Self::Exited(code) => process::exit_now(code.into()),
            Self::Killed(number) => {
                // A core dump, if any, was the command's.
                let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
                signal::restore(number);
                if let Some(killer) = Signal::from_named_raw(number) {
                    let _ = kill_process(getpid(), killer);
                }
                let _ = signal::unblock(&[number]);
                process::exit_now(number.saturating_add(128))
            }
        }
    }
}

/// A message from the monitor to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelayReport {
    /// The command was stopped by this signal.
    Stopped(i32),
    /// The command ended.
    Ended(RelayEnd),
}

/// A message from the relay to the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelayOrder {
    /// Let the command continue, with the terminal.
    Foreground,
    /// Let the command continue, without the terminal.
    Background,
    /// Send the command this signal.
    Signal(i32),
}

impl RelayReport {
    fn encode(self) -> [u8; 2] {
        let number = |number: i32| u8::try_from(number).unwrap_or(0);
        match self {
            Self::Stopped(signal) => [b's', number(signal)],
            Self::Ended(RelayEnd::Exited(code)) => [b'x', code],
            Self::Ended(RelayEnd::Killed(signal)) => [b'k', number(signal)],
        }
    }

    fn decode([kind, number]: [u8; 2]) -> Option<Self> {
        match kind {
            b's' => Some(Self::Stopped(number.into())),
            b'x' => Some(Self::Ended(RelayEnd::Exited(number))),
            b'k' => Some(Self::Ended(RelayEnd::Killed(number.into()))),
            _ => None,
        }
    }

    /// Sends the message.
    pub fn send(self, to: impl AsFd) {
        tell(to, self.encode());
    }

    /// Receives a message; `None` if the other side has gone.
    pub fn receive(from: impl AsFd) -> Option<Self> {
        Self::decode(receive(from)?)
    }
}

impl RelayOrder {
    fn encode(self) -> [u8; 2] {
        match self {
            Self::Foreground => [b'f', 0],
            Self::Background => [b'b', 0],
            Self::Signal(signal) => [b's', u8::try_from(signal).unwrap_or(0)],
        }
    }

    fn decode([kind, number]: [u8; 2]) -> Option<Self> {
        match kind {
            b'f' => Some(Self::Foreground),
            b'b' => Some(Self::Background),
            b's' => Some(Self::Signal(number.into())),
            _ => None,
        }
    }

    /// Sends the message.
    pub fn send(self, to: impl AsFd) {
        tell(to, self.encode());
    }

    /// Receives a message; `None` if the other side has gone.
    pub fn receive(from: impl AsFd) -> Option<Self> {
        Self::decode(receive(from)?)
    }
}

/// Sends a message. It is no error if the receiver has gone.
fn tell(to: impl AsFd, message: [u8; 2]) {
    while send(&to, &message, SendFlags::NOSIGNAL) == Err(Errno::INTR) {}
}

fn receive(from: impl AsFd) -> Option<[u8; 2]> {
    let mut message = [0; 2];
    loop {
        match recv_with_fds(&from, &mut message, &mut Vec::new()) {
            Ok(received) => return (received == message.len()).then_some(message),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn the_last_report_arrives_although_the_monitor_has_not_read_every_order() {
        let (relay, monitor) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        RelayOrder::Foreground.send(&relay);
        let ended = RelayReport::Ended(RelayEnd::Exited(5));
        ended.send(&monitor);
        drop(monitor);
        assert_eq!(RelayReport::receive(&relay), Some(ended));
        assert_eq!(RelayReport::receive(&relay), None);
    }

    #[test]
    fn what_is_sent_is_what_is_received() {
        for report in [
            RelayReport::Stopped(20),
            RelayReport::Ended(RelayEnd::Exited(255)),
            RelayReport::Ended(RelayEnd::Killed(9)),
        ] {
            assert_eq!(RelayReport::decode(report.encode()), Some(report));
        }
        for order in [RelayOrder::Foreground, RelayOrder::Background, RelayOrder::Signal(15)] {
            assert_eq!(RelayOrder::decode(order.encode()), Some(order));
        }
    }
}
