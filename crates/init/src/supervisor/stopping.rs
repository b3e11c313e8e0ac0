//! Stopping, as the supervisor carries it out: services, then their leftovers, the logs, and all
//! other processes below us.
//!
//! *Lives here:* which part performs which action of the shutdown, and finding what is left.
//! *Does not live here:* the stages and their times (`gatevisor_core::shutdown`). No desired state
//! is written, because stopping a container does not change what its users want.

use std::collections::BTreeSet;

use gatevisor_core::entry::ServiceRole;
use gatevisor_core::shutdown::{ChildKind, Remaining, Shutdown, ShutdownAction, ShutdownActions};
use gatevisor_core::stop::Rank;
use gatevisor_core::{ServiceInput, Tick};
use gatevisor_wire::{Pid, signal};
use rustix::process::{Signal, getpid};

use super::parts::Supervisor;
use crate::id::Id;
use crate::kill::{kill, kill_all};
use crate::orphans;
use crate::service::SupervisedService;
use crate::stderr_log::say;

impl Supervisor {
    /// Begins the shutdown. A second call stops all waiting.
    pub(super) fn begin_shutdown(&mut self) {
        self.shut_down(Shutdown::ask);
    }

    /// Begins the shutdown, and makes loggers end at once instead of reading to the end of their
    /// pipes.
    pub(super) fn quit(&mut self) {
        self.shut_down(Shutdown::quit);
    }

    /// Handles the deadline of the shutdown.
    pub(super) fn shutdown_is_due(&mut self) {
        self.shutdown.rang();
        self.shut_down(Shutdown::due);
    }

    fn shut_down(&mut self, step: impl FnOnce(&mut Shutdown, Tick, &Remaining, &mut ShutdownActions)) {
        let left = self.remaining();
        let actions = self.shutdown.step(&mut self.reactor, |it, now, out| step(it, now, &left, out));
        self.act(actions);
    }

    /// Continues the shutdown as far as possible; returns whether it is over.
    pub(super) fn is_over(&mut self) -> bool {
        while !self.shutdown.is_running() && !self.shutdown.is_over() {
            let left = self.remaining();
            let mut has_moved = false;
            let actions = self.shutdown.step(&mut self.reactor, |it, now, out| {
                has_moved = it.look(now, &left, orphans::can_be_found, out);
            });
            self.act(actions);
            if !has_moved {
                break;
            }
        }
        self.shutdown.is_over()
    }

    /// Notes that no child process is left.
    pub(super) fn no_child_is_left(&mut self) {
        let actions = self.shutdown.no_child_is_left(&mut self.reactor);
        self.act(actions);
    }

    fn act(&mut self, actions: ShutdownActions) {
        for action in actions {
            self.act_once(action);
        }
    }

    fn act_once(&mut self, action: ShutdownAction) {
        match action {
            ShutdownAction::Begin => {
                self.scanner.stop();
                self.host.stop(&mut self.reactor);
                let running = self.services.processes();
                say!("stopping ({running} {} running)", if running == 1 { "process" } else { "processes" });
            }
            ShutdownAction::Stop(whom) => self.stop(&whom),
            ShutdownAction::StopLoggers => {
                for id in self.ids_of(|service| service.role() == ServiceRole::Logger) {
                    self.step(id, ServiceInput::Shutdown);
                }
            }
            ShutdownAction::SayKilling => self.say_who_is_in_the_way("killing what did not stop in time"),
            ShutdownAction::SayLeftBehind => {
                self.say_who_is_in_the_way("leaving behind what cannot be killed");
            }
            ShutdownAction::Kill => {
                self.command.signal(signal::KILL);
                for id in self.services.ids() {
                    self.step(id, ServiceInput::KillNow);
                }
            }
            ShutdownAction::QuitLogDaemons => {
                self.scanner.end_watch();
                self.with_logs(|logs, with| logs.quit(with));
            }
            ShutdownAction::KillLateLogDaemons => self.logs.kill_late(),
            ShutdownAction::GiveUpLogDaemons => self.logs.give_up(),
            ShutdownAction::AskOrphans => {
                for pid in orphans::children(|child| self.is_orphan(child, false)) {
                    kill(pid, Signal::TERM, false);
                }
            }
            ShutdownAction::KillOrphans => self.kill_orphans(),
            ShutdownAction::Collect => self.deaths.expect_more(),
            ShutdownAction::SayKnownStopped => say!("everything that is known here has stopped"),
            ShutdownAction::SayStopped => say!("everything has stopped"),
        }
    }

    /// Returns what is left to end.
    fn remaining(&self) -> Remaining {
        let mut ranks: BTreeSet<(u32, Rank)> = self.mains().into_iter().map(|(_, whose)| whose).collect();
        // The container's command belongs to the user who owns the scandir.
        ranks.extend(self.command.pid().map(|_| (self.scandir.owner(), Rank::Command)));
        Remaining { ranks, has_entries: !self.entries.is_empty(), has_log_daemons: self.logs.are_running() }
    }

    /// Returns the services to stop, each with its user and its rank. A logger is not among them:
    /// it ends after its service, when it has read everything.
    fn mains(&self) -> Vec<(Id, (u32, Rank))> {
        let first = self.settings.stop_first.as_deref();
        let of = |id: Id| {
            let service = self.services.get(id).filter(|service| service.role() == ServiceRole::Main)?;
            Some((id, (service.uid(), Rank::of(service.entry(), first))))
        };
        self.services.ids().into_iter().filter_map(of).collect()
    }

    fn ids_of(&self, is_meant: impl Fn(&SupervisedService) -> bool) -> Vec<Id> {
        let ids = self.services.ids().into_iter();
        ids.filter(|&id| self.services.get(id).is_some_and(&is_meant)).collect()
    }

    /// Stops everything of these users and ranks.
    fn stop(&mut self, whom: &[(u32, Rank)]) {
        for (id, whose) in self.mains() {
            if whom.contains(&whose) {
                self.step(id, ServiceInput::Shutdown);
            }
        }
        if whom.iter().any(|(_, rank)| *rank == Rank::Command) {
            self.command.stop();
        }
    }

    fn say_who_is_in_the_way(&self, what: &str) {
        let command = self.command.pid().map(|_| "the command".to_owned());
        let ids = self.services.ids();
        let services = ids.iter().filter_map(|&id| self.services.get(id)).map(SupervisedService::name);
        let names: Vec<String> = command.into_iter().chain(services).collect();
        if !names.is_empty() {
            say!("{what}: {}", names.join(", "));
        }
    }

    /// Returns whether a child of ours is an orphan, which is to be killed if `kills`.
    fn is_orphan(&self, child: Pid, kills: bool) -> bool {
        let is_known = self.command.pid() == Some(child)
            || self.services.of_process(child).is_some()
            || self.logs.is_daemon(child);
        let kind = if is_known { ChildKind::Known } else { self.spawner.kind_of(child) };
        self.shutdown.is_orphan(kind, kills)
    }

    /// Kills the orphans and all their descendants.
    fn kill_orphans(&mut self) {
        let is_orphan = |child| self.is_orphan(child, true);
        if self.shutdown.is_at_orphans() && getpid().is_init() {
            // Nothing else is wanted any more in the whole namespace.
            kill_all(&orphans::children(is_orphan));
        }
        let mut collected = Vec::new();
        orphans::kill_descendants(is_orphan, |pid| collected.push(pid));
        for pid in collected {
            self.spawner.reaped(pid);
        }
    }
}
