//! The dispatcher: waits for an event and passes it to the part to which it belongs.
//!
//! *Lives here:* the loop, and what it does on every pass.
//! *Does not live here:* decisions (`gatevisor-core`), and the work of a part (each part owns its
//! fields).
//!
//! These files call each other one way only, each those below it:
//!
//! | file | what it takes from one part to the others |
//! |---|---|
//! | this one | events and timers |
//! | `requests` | what is asked of the supervisor itself |
//! | `deaths` | the end of a child |
//! | `stopping` | an action of the shutdown |
//! | `commands` | commands to a service |
//! | `starting` | the turn of a start, and the reports of it |
//! | `scanning` | names of the scandir |
//! | `steps` | an input of a service or an entry, and what follows from it |
//! | `effects` | an effect of a service's machine |
//! | `opening` | a service directory |
//! | `parts` | nothing: these are the parts |

mod commands;
mod deaths;
mod effects;
mod opening;
mod parts;
mod requests;
mod scanning;
mod starting;
mod steps;
mod stopping;

use std::os::fd::AsFd;

use gatevisor_core::ServiceInput;
use gatevisor_core::scan_queue::ScanScope;

pub(crate) use self::parts::Supervisor;
use crate::deaths::Deaths;
use crate::reactor::{EventSource, Timer};
use crate::scandir_scripts;

/// How many slices of long broadcasts are done after everything else has ended.
const LAST_SLICES: usize = 256;

impl Supervisor {
    /// Runs until the shutdown is complete.
    pub(crate) fn run(&mut self) {
        self.scanner.request(ScanScope::Whole);
        self.start_companion();
        while !self.is_over() {
            self.iterate();
        }
        Deaths::reap_last();
        // The last events go to as many subscribers as this allows.
        for _ in 0..LAST_SLICES {
            if !self.broadcasts.are_busy() {
                break;
            }
            self.broadcasts.go_on();
        }
        if self.services.processes() == 0 && self.services.count() == 0 {
            self.scandir.end_in_order();
        }
    }

    /// Becomes the `finish` of the scandir; returns if there is none.
    pub(crate) fn become_finish(&self) {
        scandir_scripts::become_finish(&self.spawner, &self.scandir);
    }

    /// Returns the exit code of the container.
    pub(crate) fn exit_code(&self) -> u8 {
        self.command.exit_code()
    }

    /// Waits for events and handles them.
    fn iterate(&mut self) {
        self.pump_scan();
        self.pump_starts();
        let is_settled = self.shutdown.is_running() && !self.scanner.is_busy();
        if is_settled {
            self.host.settled(&mut self.reactor);
        }
        let starts_command = self.command.start(&self.spawner, is_settled);
        if starts_command && self.command.machine().has_ended() {
            self.begin_shutdown();
        }
        for id in self.broadcasts.go_on() {
            self.found_crowded(id);
        }
        // The loop must not block after these deaths, or after a command that could not be started:
        // no further event may come.
        let has_reaped = self.deaths.take_more();
        if has_reaped {
            self.reap();
        }
        let is_busy = self.scanner.is_busy()
            || starts_command
            || has_reaped
            || self.deaths.expects_more()
            || self.broadcasts.are_busy();
        let mut sources = Vec::new();
        if self.reactor.wait(is_busy, &mut sources) {
            self.dispatch(&sources);
            self.fire_timers();
        }
    }

    /// Handles facts in the order in which they came, then commands.
    fn dispatch(&mut self, sources: &[EventSource]) {
        let mut commanded = Vec::new();
        for source in sources {
            match *source {
                EventSource::Control(id) => commanded.push(id),
                EventSource::Signals => self.take_signals(),
                EventSource::ScanControl => self.take_scan_commands(),
                EventSource::Watch => self.take_watch_events(),
                EventSource::Start(id) => self.take_start_report(id),
                EventSource::Readiness(id) => self.take_readiness(id),
                EventSource::LogDaemon(number) => self.with_logs(|logs, with| logs.receive(with, number)),
            }
        }
        self.commands.rotate(&mut commanded);
        for id in commanded {
            self.take_admitted_control(id);
        }
    }

    fn fire_timers(&mut self) {
        for (at, timer) in self.reactor.due() {
            if !self.reactor.take(at, timer) {
                continue;
            }
            match timer {
                Timer::Service(id) => {
                    if let Some(service) = self.services.get_mut(id) {
                        service.alarm_rang();
                    }
                    self.step(id, ServiceInput::Deadline);
                }
                Timer::LogDaemon(number) => self.with_logs(|logs, with| logs.start(with, number)),
                Timer::Unread(number) => self.with_logs(|logs, with| logs.make_room(with, number)),
                Timer::Shutdown => self.shutdown_is_due(),
                Timer::Commands => self.resume(),
                Timer::Companion => self.start_companion(),
                Timer::HostManager => {
                    let services = &self.services;
                    self.host.due(&mut self.reactor, || services.counts());
                }
            }
        }
    }

    /// Starts the process beside us, unless nothing is to be started any more.
    fn start_companion(&mut self) {
        let now = self.reactor.now().tick;
        if self.shutdown.is_running()
            && let Some(at) = self.companion.start(&self.spawner, self.scandir.as_fd(), now)
        {
            self.reactor.wake_at(at, Timer::Companion);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            let signal = u8::try_from(signal).unwrap_or_default();
            if !scandir_scripts::divert(&mut self.spawner, &self.scandir, signal) {
                self.obey(self.commands.request_of_signal(signal));
            }
        }
        self.reap();
    }
}
