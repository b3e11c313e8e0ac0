//! *Lives here:* making the last recorded desired state the last one that a supervisor is told.
//!
//! *Does not live here:* recording (`desired`), and telling (`up`, `down`).
//!
//! Two commands may record their desired states in one order, and tell the supervisor in the other.
//! So every command reads the record again after it has told the supervisor, and tells it again if
//! the record has changed. Each record is written before its own command tells, so the command that
//! tells last finds the last record. No lock is used, because a stop must not wait for the holder
//! of a lock.

use gatevisor_wire::control::Control;
use jiff::Timestamp;

use super::ScandirManager;
use crate::desired::{self, Desired};
use crate::profile::ProfileName;

/// The most changed records that one command tells. Each comes from a further command.
const MOST: usize = 100;

impl ScandirManager {
    /// Tells the supervisor of a gateway, which was just told `told`, the desired state that
    /// another command has recorded after `since`, if that is another one. Without `since`, any
    /// record counts.
    ///
    /// What other programs record has its effect in their own ways.
    pub fn settle(&self, name: &ProfileName, told: Desired, since: Option<Timestamp>) {
        let slot = self.slot(name);
        settle_by(told, &mut || self.commanded_since(name, since), &mut |desired| {
            // A gateway that runs in another container is not started here.
            let may = desired == Desired::Stopped || self.standing().allows();
            may && slot.send(&[control(desired)]).is_ok()
        });
    }

    /// Returns the desired state that a command has recorded after a moment.
    pub(super) fn commanded_since(&self, name: &ProfileName, since: Option<Timestamp>) -> Option<Desired> {
        let (desired, at) = self.commanded(name)?;
        since.is_none_or(|since| desired::is_later(at, since)).then_some(desired)
    }

    /// Returns the desired state that a command has recorded, and when.
    pub(super) fn commanded(&self, name: &ProfileName) -> Option<(Desired, Timestamp)> {
        desired::read_commanded(&self.home.profile_dir(name), &self.agent.gateway.state_file)
    }
}

const fn control(desired: Desired) -> Control {
    match desired {
        Desired::Running => Control::UpAndEnable,
        Desired::Stopped => Control::DownAndDisable,
    }
}

/// Repeats `tell` until the last told state is the recorded one. `tell` returns whether to go on.
fn settle_by(
    mut told: Desired,
    recorded: &mut dyn FnMut() -> Option<Desired>,
    tell: &mut dyn FnMut(Desired) -> bool,
) {
    for _ in 0..MOST {
        match recorded() {
            Some(desired) if desired != told && tell(desired) => told = desired,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use gatevisor_wire::files::EVENT_MODE;
    use gatevisor_wire::status::Status;
    use gatevisor_wire::tai::Tai64n;
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

    use super::super::{GatewayRequest, GatewayVerb, ServiceManager, WaitFor};
    use crate::agent::AgentDefinition;
    use crate::profile::Home;

    /// What a command still does.
    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        Record,
        Tell(Desired),
        Read(Desired),
        Over,
    }

    /// Commands that each record a desired state and tell it, one step at a time.
    #[derive(Clone)]
    struct Race {
        commands: Vec<(Desired, Step)>,
        recorded: Vec<usize>,
        told: Option<Desired>,
    }

    impl Race {
        /// Lets one command do its next step.
        fn step(&mut self, which: usize) {
            let (desired, step) = self.commands[which];
            self.commands[which].1 = match step {
                Step::Record => {
                    self.recorded.push(which);
                    Step::Tell(desired)
                }
                Step::Tell(desired) => {
                    self.told = Some(desired);
                    Step::Read(desired)
                }
                Step::Read(told) => self.read(which, told),
                Step::Over => Step::Over,
            };
        }

        /// Does what `settle_by` does between two of its reads.
        fn read(&self, which: usize, told: Desired) -> Step {
            let last = *self.recorded.last().unwrap();
            let recorded = (last != which).then(|| self.commands[last].0);
            let (reads, next) = (Cell::new(0), Cell::new(Step::Over));
            settle_by(
                told,
                &mut || {
                    reads.set(reads.get() + 1);
                    recorded
                },
                &mut |desired| {
                    next.set(Step::Tell(desired));
                    false
                },
            );
            assert_eq!(reads.get(), 1);
            next.get()
        }

        /// Checks every order of the steps that are left.
        fn check_all(&self, orders: &mut usize) {
            let left: Vec<usize> =
                (0..self.commands.len()).filter(|&which| self.commands[which].1 != Step::Over).collect();
            if left.is_empty() {
                let last = self.commands[*self.recorded.last().unwrap()].0;
                assert_eq!(self.told, Some(last));
                *orders += 1;
            }
            for which in left {
                let mut next = self.clone();
                next.step(which);
                next.check_all(orders);
            }
        }
    }

    #[test]
    fn in_every_order_of_their_steps_what_was_recorded_last_is_told_last() {
        let (start, stop) = ((Desired::Running, Step::Record), (Desired::Stopped, Step::Record));
        for commands in [vec![start, stop], vec![start, stop, start], vec![stop, stop, start]] {
            let mut orders = 0;
            Race { commands, recorded: Vec::new(), told: None }.check_all(&mut orders);
            assert!(orders >= 20, "{orders}");
        }
    }

    #[test]
    fn it_goes_on_until_what_was_told_is_what_is_recorded_and_ends_where_nobody_listens() {
        let told = |recorded: &[Option<Desired>], listens: bool| {
            let (mut recorded, told) = (recorded.iter().copied(), RefCell::new(Vec::new()));
            settle_by(Desired::Running, &mut || recorded.next().unwrap(), &mut |desired| {
                told.borrow_mut().push(desired);
                listens
            });
            (told.into_inner(), recorded.count())
        };
        let (running, stopped) = (Some(Desired::Running), Some(Desired::Stopped));
        assert_eq!(told(&[None, stopped], true), (vec![], 1));
        assert_eq!(told(&[running, stopped], true), (vec![], 1));
        let both = vec![Desired::Stopped, Desired::Running];
        assert_eq!(told(&[stopped, running, running], true), (both, 0));
        assert_eq!(told(&[stopped, running], false), (vec![Desired::Stopped], 1));
    }

    /// Makes a FIFO, and returns a reader of it that never waits.
    fn fifo(path: &Path) -> fs::File {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
    }

    /// A gateway that is down, under a supervisor that only receives.
    struct Receiver {
        manager: ScandirManager,
        name: ProfileName,
        control: fs::File,
        _scan: fs::File,
        _place: tempfile::TempDir,
    }

    impl Receiver {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let agent = AgentDefinition::parse(crate::agent::SMALL, "test").unwrap();
            let home = Home::resolve(Some(&place.path().join("home")), &agent, &|_| None).unwrap();
            let (scandir, name) = (place.path().join("service"), "coder".parse::<ProfileName>().unwrap());
            let (slot, profile) = (scandir.join(name.service_entry()), home.profile_dir(&name));
            for directory in [&profile, &scandir.join(".s6-svscan"), &slot.join("supervise")] {
                fs::create_dir_all(directory).unwrap();
            }
            fs::write(profile.join(&agent.profile.marker), "").unwrap();
            fs::create_dir(slot.join("event")).unwrap();
            rustix::fs::chmod(slot.join("event"), Mode::from_raw_mode(EVENT_MODE)).unwrap();
            fs::write(slot.join("run"), "#!/bin/sh\n").unwrap();
            let zero = Tai64n::ZERO;
            let status = Status {
                changed: zero,
                ready_at: zero,
                pid: None,
                last: gatevisor_wire::wait::WaitStatus::default(),
                paused: false,
                finishing: false,
                want_up: false,
                ready: true,
            };
            fs::write(slot.join("supervise/status"), status.encode()).unwrap();
            let (control, scan) =
                (fifo(&slot.join("supervise/control")), fifo(&scandir.join(".s6-svscan/control")));
            let manager = ScandirManager::new(agent, home, scandir, "/usr/bin/gatevisor".into());
            Self { manager, name, control, _scan: scan, _place: place }
        }

        /// Returns what a command has that waits for nothing.
        fn parts(&self) -> (ScandirManager, ProfileName, GatewayRequest) {
            let request = GatewayRequest { wait: WaitFor::Nothing, ..GatewayRequest::here("test") };
            (self.manager.clone(), self.name.clone(), request)
        }

        /// Returns the commands that were sent since.
        fn told(&mut self) -> String {
            let mut buffer = [0; 64];
            let bytes = self.control.read(&mut buffer).unwrap();
            String::from_utf8(buffer[..bytes].to_vec()).unwrap()
        }
    }

    #[test]
    fn a_restart_that_is_told_after_a_newer_stop_is_followed_by_that_stop() {
        let mut it = Receiver::new();
        let (manager, name, request) = it.parts();
        let recorded = manager.desired_state(GatewayVerb::Restart, &name, &request).unwrap();
        drop(manager.stop(&name, &request).unwrap());
        assert_eq!(it.told(), "D");
        drop(manager.carry_up(GatewayVerb::Restart, &name, &request, recorded).unwrap());
        assert_eq!(it.told(), "UD");
        assert_eq!(manager.commanded(&name).unwrap().0, Desired::Stopped);
    }

    #[test]
    fn a_stop_that_could_not_be_recorded_at_first_is_told_again_after_an_older_start() {
        let mut it = Receiver::new();
        let (manager, name, request) = it.parts();
        let recorded = manager.desired_state(GatewayVerb::Start, &name, &request).unwrap();
        let (stopped, is_kept, _) = {
            let home = crate::files::open_directory(&manager.home.profile_dir(&name)).unwrap();
            let file = manager.home.profile_dir(&name).join(&manager.agent.gateway.state_file);
            let _held = desired::lock_beside(std::os::fd::AsFd::as_fd(&home), &file, false).unwrap().unwrap();
            manager.desired_state_to_stop(&name, &request).unwrap()
        };
        assert!(!is_kept);
        drop(manager.carry_up(GatewayVerb::Start, &name, &request, recorded).unwrap());
        assert_eq!(it.told(), "U");
        manager.keep_stopped(&name, &stopped).unwrap();
        manager.settle(&name, Desired::Running, None);
        assert_eq!(it.told(), "D");
        // And it does not replace what a start has recorded since.
        drop(manager.start(&name, &request).unwrap());
        manager.keep_stopped(&name, &stopped).unwrap();
        assert_eq!(manager.commanded(&name).unwrap().0, Desired::Running);
        assert_eq!(it.told(), "U");
    }

    #[test]
    fn what_another_program_records_is_not_followed() {
        let mut it = Receiver::new();
        let (manager, name, request) = it.parts();
        let recorded = manager.desired_state(GatewayVerb::Start, &name, &request).unwrap();
        let (home, file) = (manager.home.profile_dir(&name), &manager.agent.gateway.state_file);
        let since = recorded.0.at;
        assert!(desired::record_for_another(&home, file, Desired::Stopped, since).unwrap());
        drop(manager.carry_up(GatewayVerb::Start, &name, &request, recorded).unwrap());
        assert_eq!(it.told(), "U");
    }

    #[test]
    fn a_restart_whose_gateway_another_command_ended_did_not_fail_to_start() {
        use gatevisor_wire::tally::Death;
        use gatevisor_wire::wait::WaitStatus;

        let it = Receiver::new();
        let (manager, name, nothing) = it.parts();
        let ends = |is_another: bool| {
            let request = GatewayRequest {
                wait: WaitFor::Started,
                timeout: Some(std::time::Duration::ZERO),
                ..nothing.clone()
            };
            let recorded = manager.desired_state(GatewayVerb::Restart, &name, &request).unwrap();
            let pending = manager.carry_up(GatewayVerb::Restart, &name, &request, recorded).unwrap();
            if is_another {
                drop(manager.stop(&name, &nothing).unwrap());
                drop(manager.start(&name, &nothing).unwrap());
            }
            let slot = manager.slot(&name);
            let death = Death::new(Tai64n::ZERO, WaitStatus::killed(15).unwrap());
            fs::write(slot.path().join("supervise/death_tally"), death.encode()).unwrap();
            let status = Status { want_up: true, ..slot.status().unwrap() };
            fs::write(slot.path().join("supervise/status"), status.encode()).unwrap();
            for fifo in fs::read_dir(slot.path().join("event")).unwrap() {
                fs::write(fifo.unwrap().path(), "ud").unwrap();
            }
            let ended = manager.finish(GatewayVerb::Restart, &name, &request, pending);
            ended.map(drop).unwrap_err().to_string()
        };
        let (alone, meanwhile) = (ends(false), ends(true));
        assert!(alone.contains("failed to start: it ended: signal SIGTERM"), "{alone}");
        assert!(meanwhile.contains("gave up waiting for the restart"), "{meanwhile}");
    }
}
