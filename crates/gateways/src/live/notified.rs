//! *Lives here:* the sockets on which gateways say by themselves that they work, and how often they are listened to.
//!
//! *Does not live here:* whose word counts and what it says (`notify`), what comes of it (see `watcher`).
//!
//! Whoever may send may flood. So after each time something came, nobody listens for a moment: the kernel keeps a few
//! datagrams and has senders wait, and the watcher has time for the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::notify::{DIRECTORY, socket_of};
use gatevisor_wire::Pid;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::Errno;

use crate::notify::{Message, Receiver, is_member};

/// Milliseconds for which nobody listens after something has come.
const PAUSE_MS: u64 = 200;

/// The sockets of the gateways of a scandir.
#[derive(Debug)]
pub(super) struct Notified {
    scandir: PathBuf,
    receivers: BTreeMap<String, Receiver>,
    deaf_until_ms: u64,
}

impl Notified {
    pub fn new(scandir: &Path) -> Self {
        Self { scandir: scandir.to_owned(), receivers: BTreeMap::new(), deaf_until_ms: 0 }
    }

    /// Has a socket for a gateway that uses one; where that cannot be made, the gateway is not refresh.
    pub fn keep(&mut self, service: &str) {
        if self.receivers.contains_key(service) || self.make_directory().is_err() {
            return;
        }
        if let Ok(receiver) = Receiver::bind(&socket_of(&self.scandir, service)) {
            self.receivers.insert(service.to_owned(), receiver);
        }
    }

    fn make_directory(&self) -> Result<(), Errno> {
        let path = self.scandir.join(DIRECTORY);
        let (parent, name) = by_path::parent(&path)?;
        match mkdirat(&parent, name, Mode::RWXU) {
            // What is there may be somebody's own, who may do with it as they like.
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    pub fn forget(&mut self, service: &str) {
        if self.receivers.remove(service).is_some() {
            let path = socket_of(&self.scandir, service);
            let _ = by_path::parent(&path)
                .and_then(|(directory, name)| unlinkat(directory, name, AtFlags::empty()));
        }
    }

    /// Returns what is to be polled, and milliseconds after which there is more to be polled.
    pub fn poll_fds(&self, now_ms: u64) -> (Vec<PollFd<'_>>, Option<u64>) {
        if now_ms < self.deaf_until_ms {
            return (Vec::new(), Some(self.deaf_until_ms.saturating_sub(now_ms)));
        }
        (self.receivers.values().map(|receiver| PollFd::new(receiver, PollFlags::IN)).collect(), None)
    }

    /// Takes what has come; `leader` knows the process of a gateway.
    pub fn hear(
        &mut self,
        now_ms: u64,
        leader: &dyn Fn(&str) -> Option<Pid>,
        take: &mut dyn FnMut(&str, Message),
    ) {
        if now_ms < self.deaf_until_ms {
            return;
        }
        let mut any = false;
        for (service, receiver) in &self.receivers {
            let leader = leader(service);
            let mut counts = |sender| {
                any = true;
                leader.is_some_and(|leader| is_member(sender, leader))
            };
            receiver.drain(&mut counts, &mut |message| take(service, message));
        }
        if any {
            self.deaf_until_ms = now_ms.saturating_add(PAUSE_MS);
        }
    }
}
