//! Where a service says by `sd_notify` that it works, and how often it should.
//!
//! *Lives here:* the socket's place and the variables that tell a service. *Does not live here:* the socket, which is the
//! watcher's, and what comes of what is said (`gatevisor-gateways`).
//!
//! **Source:** `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gatevisor_liveness::LiveSettings;

/// Where the sockets are, below a scandir.
pub const DIRECTORY: &str = ".live/notify";
/// Bytes of the longest path that a service can be told.
pub const LONGEST_PATH: usize = 107;

/// What a service is told by; a supervisor of ours may have been told the same by its own.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Returns the socket of a service.
pub fn socket_of(scandir: &Path, service: &str) -> PathBuf {
    scandir.join(DIRECTORY).join(service)
}

/// Returns how old a service's last word may be, in milliseconds: it is to say one within each interval.
pub const fn max_age_ms(settings: &LiveSettings) -> u64 {
    settings.interval_ms.saturating_mul(3)
}

/// Returns what a service is told whose directory is this. It sends after half of the time that it is told.
pub(crate) fn told(service: &Path, settings: &LiveSettings) -> Option<[(&'static str, OsString); 2]> {
    let socket = socket_of(service.parent()?, service.file_name()?.to_str()?);
    let usec = settings.interval_ms.saturating_mul(2000);
    let [socket_variable, usec_variable, _] = VARIABLES;
    (socket.as_os_str().len() <= LONGEST_PATH)
        .then(|| [(socket_variable, socket.into()), (usec_variable, usec.to_string().into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_its_socket_and_twice_the_interval_unless_the_path_is_too_long() {
        let settings = LiveSettings { interval_ms: 10_000, ..LiveSettings::default() };
        let told_of = told(Path::new("/run/service/gateway-a"), &settings).unwrap();
        let [socket, usec] = told_of.map(|(name, value)| format!("{name}={}", value.display()));
        assert_eq!(socket, "NOTIFY_SOCKET=/run/service/.live/notify/gateway-a");
        assert_eq!(usec, "WATCHDOG_USEC=20000000");
        let long = format!("/{}/gateway-a", "d".repeat(100));
        assert_eq!(told(Path::new(&long), &settings), None);
        assert!(max_age_ms(&settings) > settings.interval_ms);
    }
}
