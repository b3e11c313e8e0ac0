//! Keeps watching processes running, as children of this process.
//!
//! *Lives here:* starting such a process again after its end, and ending one that does nothing.
//! *Does not live here:* what they watch (`watch`, `live`); who keeps the keeper (the supervisor).
//!
//! A process that a signal has stopped is killed, and so is one that makes no progress: it watches
//! nothing, and nobody would replace it. All of them end with the keeper. So does the keeper with
//! its parent; where that is a service, the keeper kills it if a signal has stopped it, and the
//! supervisor starts all of them again.

use std::os::fd::OwnedFd;
use std::time::Duration;

use gatevisor_liveness::{Attended, Attention, ClockReading, WakeUp};
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::process::fork_beside;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::out;

/// The longest time in milliseconds between two looks of the keeper.
const LOOK_MS: u64 = 5_000;
/// How long a process may make no progress, in time during which the keeper itself runs.
const STUCK: Duration = Duration::from_mins(1);
/// Milliseconds before a process that has ended is started again: after its first end, and the
/// most.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 60_000;

/// A process to keep running.
pub struct Kept<'a> {
    /// Which process it is, in words of a message.
    pub what: &'static str,
    /// The work of the process. Returns its exit code.
    pub job: Box<dyn Fn() -> i32 + 'a>,
    /// Returns a number that changes as long as the process makes progress; `None` if nothing shows
    /// that.
    pub pulse: Option<Box<dyn Fn() -> Option<u64> + 'a>>,
    /// Returns whether the process has anything to do; `None` if it always has. It is called before
    /// each start. A process that has nothing left to do ends by itself.
    pub is_wanted: Option<Box<dyn Fn() -> bool + 'a>>,
}

/// The service whose child the keeper is.
pub struct ParentService<'a> {
    /// Which process it is, in words of a message.
    pub what: &'static str,
    /// Returns its process, if a signal has stopped that and its supervisor has not paused it.
    pub stopped: Box<dyn Fn() -> Option<Pid> + 'a>,
}

/// Keeps these processes running, and so the service whose child this is, if that is one. Does not
/// return.
pub fn keep(all: &[Kept<'_>], parent: Option<&ParentService<'_>>) -> ! {
    let mut stopped_parent = StoppedParent::default();
    let mut running: Vec<KeptProcess<'_>> = all.iter().map(KeptProcess::new).collect();
    let (mut attention, mut planned_ms) = (Attention::default(), 0);
    loop {
        let now_ms = monotonic_ms();
        let wake = attention.wake(ClockReading { monotonic_ms: now_ms, boottime_ms: now_ms }, planned_ms);
        for process in &mut running {
            process.step(now_ms, wake);
        }
        if let Some(parent) = parent {
            let stopped = (parent.stopped)();
            if let Some(pid) = stopped.filter(|_| stopped_parent.is_to_end(stopped, wake.now)) {
                replace(parent.what, pid, "was stopped by a signal");
            }
        }
        planned_ms = running.iter().map(|process| process.left_ms(now_ms)).min().unwrap_or(LOOK_MS);
        let ends = running.iter().filter_map(|process| process.end.as_ref());
        let mut fds: Vec<PollFd<'_>> = ends.map(|end| PollFd::new(end, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&timespec(planned_ms)));
    }
}

/// Since when the keeper has seen that a signal has stopped its parent.
#[derive(Debug, Default)]
struct StoppedParent {
    since: Option<(Pid, Attended)>,
}

impl StoppedParent {
    /// Handles a look at the parent. Returns whether it has been stopped for so long that nobody is
    /// about to continue it.
    fn is_to_end(&mut self, stopped: Option<Pid>, now: Attended) -> bool {
        self.since = match (stopped, self.since) {
            (Some(pid), Some((known, since))) if known == pid => Some((pid, since)),
            (Some(pid), _) => Some((pid, now)),
            (None, _) => None,
        };
        self.since.is_some_and(|(_, since)| now.since(since) >= LOOK_MS)
    }
}

/// Kills what watches. It is started again once it has ended.
fn replace(what: &str, pid: Pid, why: &str) {
    out::warn(&format!("{what} {why}, and is replaced"));
    let _ = kill_process(pid, Signal::KILL);
}

/// A kept process, running or waiting to be started.
struct KeptProcess<'a> {
    kept: &'a Kept<'a>,
    pid: Option<Pid>,
    /// The pidfd of the process, while it runs.
    end: Option<OwnedFd>,
    began_ms: u64,
    start_at_ms: u64,
    delay_ms: u64,
    /// The last number that showed progress, and when it was seen.
    last_pulse: Option<u64>,
    last_progress: Attended,
}

impl<'a> KeptProcess<'a> {
    fn new(kept: &'a Kept<'a>) -> Self {
        Self {
            kept,
            pid: None,
            end: None,
            began_ms: 0,
            start_at_ms: 0,
            delay_ms: FIRST_MS,
            last_pulse: None,
            last_progress: Attended::default(),
        }
    }

    /// Returns the milliseconds until something must be done about it, if it does not end.
    fn left_ms(&self, now_ms: u64) -> u64 {
        if self.pid.is_some() { LOOK_MS } else { self.start_at_ms.saturating_sub(now_ms).min(LOOK_MS) }
    }

    /// Does what is due about it.
    fn step(&mut self, now_ms: u64, wake: WakeUp) {
        let Some(pid) = self.pid else {
            if now_ms < self.start_at_ms {
                return;
            }
            if self.kept.is_wanted.as_ref().is_none_or(|is_wanted| is_wanted()) {
                self.start(now_ms, wake.now);
            } else {
                self.start_at_ms = now_ms.saturating_add(LOOK_MS);
            }
            return;
        };
        match waitpid(Some(pid), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                replace(self.kept.what, pid, "was stopped by a signal");
            }
            Ok(None) if self.is_stuck(wake) => replace(self.kept.what, pid, "does not get on"),
            Ok(None) => {}
            Ok(Some((_, status))) => self.ended(now_ms, status.exit_status() == Some(0)),
            Err(_) => self.ended(now_ms, false),
        }
    }

    fn start(&mut self, now_ms: u64, now: Attended) {
        self.began_ms = now_ms;
        (self.last_pulse, self.last_progress) = (None, now);
        match fork_beside(&self.kept.job) {
            Ok(pid) => {
                self.pid = Some(pid);
                self.end = pidfd_open(pid, PidfdFlags::empty()).ok();
            }
            Err(errno) => {
                out::warn(&format!("cannot start {}: cannot fork: {errno}", self.kept.what));
                self.ended(now_ms, false);
            }
        }
    }

    /// Notes its end. The next start comes soon if it ran for a while, or if it ended on purpose,
    /// such as because of new settings.
    fn ended(&mut self, now_ms: u64, on_purpose: bool) {
        (self.pid, self.end) = (None, None);
        if on_purpose || now_ms.saturating_sub(self.began_ms) > LONGEST_MS {
            self.delay_ms = FIRST_MS;
        }
        self.start_at_ms = now_ms.saturating_add(self.delay_ms);
        self.delay_ms = self.delay_ms.saturating_mul(2).min(LONGEST_MS);
    }

    fn is_stuck(&mut self, wake: WakeUp) -> bool {
        let Some(pulse) = &self.kept.pulse else { return false };
        let pulse = pulse();
        if pulse != self.last_pulse || wake.lapse {
            (self.last_pulse, self.last_progress) = (pulse, wake.now);
        }
        u128::from(wake.now.since(self.last_progress)) > STUCK.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many milliseconds a process is started again that ends at once, each time.
    fn waits(on_purpose: impl Fn(usize) -> bool) -> Vec<u64> {
        let kept = Kept { what: "a test", job: Box::new(|| 0), pulse: None, is_wanted: None };
        let mut process = KeptProcess::new(&kept);
        let ends = (0..9).map(|number| {
            process.began_ms = 5;
            process.ended(5, on_purpose(number));
            process.start_at_ms - 5
        });
        ends.collect()
    }

    #[test]
    fn a_process_that_ends_on_purpose_is_started_again_soon_each_time_and_never_at_once() {
        assert_eq!(waits(|_| false), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(waits(|_| true), [1_000; 9]);
        assert_eq!(waits(|number| number == 3)[2..6], [4_000, 1_000, 2_000, 4_000]);
    }

    #[test]
    fn a_parent_that_a_signal_has_stopped_is_ended_only_if_it_still_is_at_a_later_look() {
        let (first, second) = (Pid::from_raw(70), Pid::from_raw(71));
        let mut parent = StoppedParent::default();
        for (at_ms, stopped, expected) in [
            (0, first, false),
            (LOOK_MS - 1, first, false),
            // It went on meanwhile.
            (LOOK_MS, None, false),
            (LOOK_MS + 1, first, false),
            (2 * LOOK_MS, second, false),
            (3 * LOOK_MS, second, true),
        ] {
            assert_eq!(parent.is_to_end(stopped, Attended(at_ms)), expected, "{at_ms} ms");
        }
    }

    #[test]
    fn the_exit_code_of_a_process_says_whether_it_ended_on_purpose() {
        for (code, next_ms) in [(0, FIRST_MS), (111, 16_000)] {
            let kept = Kept { what: "a test", job: Box::new(move || code), pulse: None, is_wanted: None };
            let mut process = KeptProcess::new(&kept);
            process.delay_ms = 16_000;
            let wake = Attention::default().wake(ClockReading { monotonic_ms: 5, boottime_ms: 5 }, 0);
            process.step(5, wake);
            let end = process.end.as_ref().unwrap();
            poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&timespec(60_000))).unwrap();
            process.step(5, wake);
            assert_eq!(process.start_at_ms, 5 + next_ms, "{code}");
        }
    }
}
