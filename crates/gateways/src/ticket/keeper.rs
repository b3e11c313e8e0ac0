//! *Lives here:* the part of the watcher: noticing tickets, and starting a child that carries each
//! of them out.
//!
//! *Does not live here:* what such a child does (`carry`).

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use gatevisor_paths::by_path;
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_sys::process::fork_beside;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::carry::carry_out;
use super::daily;
use super::decide::{TicketStep, decide};
use super::look::seen;
use super::record::{RestartTicket, TicketStore};
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// The change that a new or changed ticket causes: it is renamed into the directory.
const COMES: WatchFlags = WatchFlags::MOVED_TO.union(WatchFlags::ONLYDIR).union(WatchFlags::DONT_FOLLOW);

/// Milliseconds between two checks whether a daily restart is due.
const DAILY_MS: u64 = 30_000;

/// Notices tickets, and has children carry them out.
#[derive(Debug, Default)]
pub(crate) struct TicketKeeper {
    /// `None` if no inotify instance is left. Tickets are then noticed at the next look.
    inotify: Option<Inotify>,
    /// The children, by the profile whose ticket each of them carries out.
    workers: BTreeMap<ProfileName, Pid>,
    /// When the daily restart is checked next.
    daily_at_ms: u64,
}

impl TicketKeeper {
    /// Returns the descriptor to poll, if there is one.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        Some(PollFd::from_borrowed_fd(self.inotify.as_ref()?.as_fd(), PollFlags::IN))
    }

    /// Does what is due, and returns the messages about it.
    pub fn step(&mut self, manager: &ScandirManager) -> Vec<(ProfileName, String)> {
        let now_ms = monotonic_ms();
        if now_ms >= self.daily_at_ms {
            self.daily_at_ms = now_ms.saturating_add(DAILY_MS);
            daily::leave_due(&manager.as_remembered(), &TimeZone::system(), Timestamp::now());
        }
        let Some(store) = TicketStore::open(manager.home().root()) else { return Vec::new() };
        self.watch(&store);
        let mut said = self.reap(&store);
        for name in store.names() {
            let Some(ticket) = store.read(&name).filter(|ticket| ticket.stage.is_pending()) else { continue };
            if self.workers.contains_key(&name) {
                continue;
            }
            match decide(&ticket, seen(manager, &name), Timestamp::now()) {
                TicketStep::Wait => {}
                TicketStep::CarryOut => said.extend(self.begin(manager, &store, &name, &ticket)),
                TicketStep::End(stage, how) => {
                    store.step(&name, &ticket, |ticket, now| ticket.ended(stage, how, now));
                    said.push((name, how.to_owned()));
                }
            }
        }
        said
    }

    /// Watches the directory, which exists from the first ticket on.
    fn watch(&mut self, store: &TicketStore) {
        if let Some(inotify) = &self.inotify {
            inotify.drain();
            return;
        }
        let inotify = Inotify::new().ok();
        self.inotify = inotify.filter(|inotify| by_path::watch(inotify, store.path(), COMES).is_ok());
    }

    fn begin(
        &mut self,
        manager: &ScandirManager,
        store: &TicketStore,
        name: &ProfileName,
        ticket: &RestartTicket,
    ) -> Option<(ProfileName, String)> {
        // If no child can be started, the next look tries again. The definition may have been
        // edited since this process began.
        let work = || carry_out(&manager.as_remembered(), store, name, ticket);
        let worker = fork_beside(|| i32::from(!work())).ok()?;
        self.workers.insert(name.clone(), worker);
        let reason = ticket.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let who = if ticket.scheduled.is_some() {
            "the agent definition wants it"
        } else {
            "it asks for that itself"
        };
        Some((name.clone(), format!("{who}{reason}")))
    }

    /// Collects the children that have ended, and returns their results.
    fn reap(&mut self, store: &TicketStore) -> Vec<(ProfileName, String)> {
        let is_over = |worker: Pid| !matches!(waitpid(Some(worker), WaitOptions::NOHANG), Ok(None));
        let over = self.workers.iter().filter(|(_, worker)| is_over(**worker));
        let over: Vec<ProfileName> = over.map(|(name, _)| name.clone()).collect();
        self.workers.retain(|name, _| !over.contains(name));
        over.into_iter()
            .filter_map(|name| store.read(&name)?.outcome.map(|outcome| (name, outcome)))
            .collect()
    }
}
