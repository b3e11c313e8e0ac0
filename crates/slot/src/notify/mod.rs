//! The service's own reports by `sd_notify`.
//!
//! *Lives here:* the socket's place, the variables that tell a service about it, and the file with
//! the service's reports.
//! *Does not live here:* the socket (`receiver`), the text (`message`), the process that owns both
//! ends (`relay`), and the consequences of a service's silence (`gatevisor-gateways`).
//!
//! The socket is owned by a process of the service's user, which begins before the service and ends
//! with it. So no message is lost because nobody receives it, `READY=1` reaches the supervisor only
//! through the service's notification descriptor, and a flood costs only its sender.
//!
//! **Source:** `sd_notify(3)`, `sd_watchdog_enabled(3)`.

mod message;
mod receiver;
mod relay;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use gatevisor_liveness::LiveSettings;
use gatevisor_sys::environment::NOTIFY_VARIABLES;
use gatevisor_sys::file;
use rustix::fs::CWD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use message::{Message, parse};
pub(crate) use receiver::Receiver;
pub use receiver::is_received;
pub(crate) use relay::relay;

/// The path of a service's socket below its directory.
pub const SOCKET: &str = "data/notify";
/// The path of the file with a service's reports, below its directory.
pub const SAID: &str = "data/notified";
/// The most bytes of that file.
pub const SAID_BYTES: usize = 4096;
/// The longest path in bytes that a service can be given.
const LONGEST_PATH: usize = 107;

/// The reports of a service in one life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Said {
    /// The process of that life.
    pub pid: i32,
    /// How many messages have shown that it works.
    pub words: u64,
    /// The time, in milliseconds of the monotonic clock, until which it has asked to be excused.
    pub extended_until_ms: u64,
    /// Whether it has sent `READY=1`.
    pub ready: bool,
    /// Whether it has reported that it is about to end.
    pub stopping: bool,
    /// Whether it has reported that it does not work, and nothing since.
    pub failed: bool,
    /// What it is doing, in its own words.
    pub status: Option<String>,
}

impl Said {
    /// Adds a message.
    pub fn take(&mut self, message: Message, now_ms: u64) {
        match message {
            Message::Status(text) => self.status = Some(text).filter(|text| !text.is_empty()),
            Message::WatchdogTrigger => self.failed = true,
            Message::Ready => {
                self.ready = true;
                self.works();
            }
            Message::Watchdog | Message::Reloading => self.works(),
            Message::Stopping => {
                self.stopping = true;
                self.works();
            }
            Message::Extend(time) => {
                self.extended_until_ms = self.extended_until_ms.max(now_ms.saturating_add(ms(time)));
                self.works();
            }
        }
    }

    const fn works(&mut self) {
        self.failed = false;
        self.words = self.words.saturating_add(1);
    }

    /// Returns the content of the file.
    pub(crate) fn encode(&self) -> Option<String> {
        toml::to_string(self).ok()
    }

    /// Returns a file's content, if it is about the life with this process.
    pub fn decode(text: &str, pid: i32) -> Option<Self> {
        toml::from_str(text).ok().filter(|said: &Self| said.pid == pid)
    }
}

/// Returns how old a service's last message may be, in milliseconds; it should send one within each
/// interval.
pub const fn max_age_ms(settings: &LiveSettings) -> u64 {
    settings.interval_ms.saturating_mul(3)
}

/// Returns the socket of the service whose directory is this process's working directory, and the
/// variables for the service.
pub(crate) fn listen(settings: &LiveSettings) -> io::Result<(Receiver, NotifyVariables)> {
    let told = told(&std::env::current_dir()?, settings).ok_or_else(|| {
        io::Error::other(format!("the path of its service directory leaves no room in {LONGEST_PATH} bytes"))
    })?;
    let Some((data, name)) = SOCKET.split_once('/') else { return Err(Errno::INVAL.into()) };
    Ok((Receiver::bind(file::open_directory(CWD, data)?, name)?, told))
}

/// The variables for a service.
type NotifyVariables = [(&'static str, OsString); 2];

/// Returns the variables for the service in this directory, unless the path is too long. The
/// service sends after half of the time.
fn told(service: &Path, settings: &LiveSettings) -> Option<NotifyVariables> {
    let socket = service.join(SOCKET);
    let usec = settings.interval_ms.saturating_mul(2000);
    let [socket_variable, usec_variable, _] = NOTIFY_VARIABLES;
    (socket.as_os_str().len() <= LONGEST_PATH)
        .then(|| [(socket_variable, socket.into()), (usec_variable, usec.to_string().into())])
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
