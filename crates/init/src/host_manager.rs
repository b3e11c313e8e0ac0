//! The service manager of the host that started us, and waits to be told how we are.
//!
//! *Lives here:* its address, and sending messages. *Does not live here:* which message is due when
//! (`gatevisor_core::host_manager`).
//!
//! A message never makes the loop wait. One that cannot be sent is lost, and that is said once.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use gatevisor_core::Tick;
use gatevisor_core::host_manager::{HostNotice, HostNotifier, ServiceCounts};

use crate::reactor::{Alarm, Reactor, Timer};
use crate::stderr_log::say;

/// Whom to tell, and how often a sign of life is expected.
///
/// **Source:** `sd_notify(3)`, `sd_watchdog_enabled(3)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostManager {
    /// `NOTIFY_SOCKET`: an absolute path, or a name with `@` in front of it.
    pub socket: OsString,
    /// `WATCHDOG_USEC`, if it is meant for this process: microseconds.
    pub watchdog_us: Option<u64>,
}

/// What tells the host's service manager; does nothing where there is none.
#[derive(Debug, Default)]
pub(crate) struct HostChannel {
    open: Option<Open>,
    alarm: Alarm,
}

#[derive(Debug)]
struct Open {
    notifier: HostNotifier,
    socket: UnixDatagram,
    address: SocketAddr,
    has_failed: bool,
}

impl HostChannel {
    pub(crate) fn new(manager: Option<&HostManager>) -> Self {
        let open = manager.and_then(|manager| match open(manager) {
            Ok(open) => Some(open),
            Err(error) => {
                let name = manager.socket.display();
                say!(
                    "warning: the service manager that listens at `{name}` cannot be told anything: {error}"
                );
                None
            }
        });
        Self { open, alarm: Alarm::default() }
    }

    /// Takes in that something is different with a service.
    pub(crate) fn changed(&mut self, reactor: &mut Reactor) {
        self.tell(reactor, |notifier, now| {
            notifier.changed(now);
            None
        });
    }

    /// Takes in that no directory is left to read.
    pub(crate) fn settled(&mut self, reactor: &mut Reactor) {
        self.tell(reactor, HostNotifier::settled);
    }

    /// Takes in that all directories are to be read anew.
    pub(crate) fn reload(&mut self, reactor: &mut Reactor) {
        self.tell(reactor, |notifier, _| notifier.reload());
    }

    /// Takes in that the supervisor ends.
    pub(crate) fn stop(&mut self, reactor: &mut Reactor) {
        self.tell(reactor, |notifier, _| notifier.stop());
    }

    /// Sends what is due.
    pub(crate) fn due(&mut self, reactor: &mut Reactor, count: impl Fn() -> ServiceCounts) {
        self.alarm.rang();
        if let Some(open) = &mut self.open {
            for notice in open.notifier.due(reactor.now().tick) {
                open.send(notice, reactor.now().tick, &count);
            }
        }
        self.set_alarm(reactor);
    }

    fn tell(
        &mut self,
        reactor: &mut Reactor,
        step: impl FnOnce(&mut HostNotifier, Tick) -> Option<HostNotice>,
    ) {
        let Some(open) = &mut self.open else { return };
        let now = reactor.now().tick;
        if let Some(notice) = step(&mut open.notifier, now) {
            open.send(notice, now, &ServiceCounts::default);
        }
        self.set_alarm(reactor);
    }

    fn set_alarm(&mut self, reactor: &mut Reactor) {
        let deadline = self.open.as_ref().and_then(|open| open.notifier.deadline());
        reactor.set(&mut self.alarm, Timer::HostManager, deadline);
    }
}

impl Open {
    fn send(&mut self, notice: HostNotice, now: Tick, count: &impl Fn() -> ServiceCounts) {
        let message = match notice {
            HostNotice::Ready => "READY=1".to_owned(),
            HostNotice::Reloading => {
                format!("RELOADING=1\nMONOTONIC_USEC={}", now.0.saturating_mul(1000))
            }
            HostNotice::Stopping => "STOPPING=1".to_owned(),
            HostNotice::Watchdog => "WATCHDOG=1".to_owned(),
            HostNotice::Status => format!("STATUS={}", count()),
        };
        let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) else { return };
        if error.kind() == io::ErrorKind::WouldBlock {
            self.notifier.found_no_room(notice, now);
        }
        if !std::mem::replace(&mut self.has_failed, true) {
            say!("warning: the service manager that started us was not told `{message}`: {error}");
        }
    }
}

fn open(manager: &HostManager) -> io::Result<Open> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = address(&manager.socket)?;
    Ok(Open { notifier: HostNotifier::new(manager.watchdog_us), socket, address, has_failed: false })
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name")),
    }
}
