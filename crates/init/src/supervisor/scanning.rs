//! Looks at the scandir: at what has changed, and at every name when asked to.
//!
//! *Lives here:* how many names are looked at before other events are handled.
//! *Does not live here:* which names are looked at, and when (`gatevisor_core::scan_queue`), and
//! what becomes of their entries (`steps`).

use super::parts::Supervisor;

/// The most names that are looked at before other events are handled.
const NAMES_AT_ONCE: usize = 8;

impl Supervisor {
    /// Handles changes of the scandir: entries that left are released at once, new ones wait for a
    /// rescan.
    pub(super) fn take_watch_events(&mut self) {
        let changes = self.scanner.drain();
        changes.left.iter().for_each(|name| self.look_for_loss(name));
        if changes.lost_count {
            self.scanner.lost_count(self.entries.names());
        }
    }

    /// Continues the scan.
    ///
    /// Only a few names of a large scandir are looked at in one iteration, so that services are
    /// started meanwhile and no command has to wait.
    pub(super) fn pump_scan(&mut self) {
        if !self.scanner.is_busy() {
            return;
        }
        self.scanner.next_unverified().iter().for_each(|name| self.look_for_loss(name));
        if self.scanner.must_drain() {
            self.take_watch_events();
        }
        if let Some(scope) = self.scanner.next_scope() {
            self.owners.clear();
            self.scanner.begin(&self.scandir, scope, || self.entries.names());
        }
        self.scanner.read_on();
        for _ in 0..NAMES_AT_ONCE {
            let Some(name) = self.scanner.next_name() else { break };
            self.look_at(&name);
        }
    }
}
