//! *Lives here:* one service as the watcher sees it: whether it runs, how this run is followed, and
//! the evidence that needs no question.
//!
//! *Does not live here:* asking the service (see `probe`), deciding (`gatevisor-liveness`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_client::ServiceDir;
use gatevisor_liveness::{
    Attended, Beat, BeatAge, BeatMark, EvidenceKind, FollowedService, Life, LiveFinding, LivePolicy,
    LiveSettings, SupervisorSays,
};
use gatevisor_paths::by_path;
use gatevisor_slot::answerer::{ServiceProcesses, Whose};
use gatevisor_slot::http;
use gatevisor_slot::live::{Live, StateFile};
use gatevisor_slot::notify::{self, Said};
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::{Process, is_stopped_by_signal};
use gatevisor_sys::tcp::Sockets;
use gatevisor_wire::status::Status;
use rustix::fs::{AtFlags, statat};
use serde_json::Value;

use super::probe::{ProbeAnswer, Question};
use super::process::{Waits, descends};
use super::report::{of_service, said_of};
use crate::files::read_bounded;
use crate::incidents::Evidence;

/// The bytes of a heartbeat file that are read.
const BEAT_BYTES: usize = 64 << 10;
/// A start time from this number on is not in ticks since boot, but in seconds or milliseconds
/// since 1970.
const TICKS: u64 = 1_000_000_000;
/// The largest difference between two measurements of the same time.
const SLACK: Duration = Duration::from_secs(1);

/// A service whose process runs and is followed.
#[derive(Debug)]
pub(super) struct FollowedGateway {
    pub dir: ServiceDir,
    pub status: Status,
    pub life: Life,
    pub live: Live,
    pub settings: LiveSettings,
    pub waits: Waits,
    /// What it has reported about itself so far.
    pub said: Said,
    processes: ServiceProcesses,
}

impl FollowedGateway {
    /// Looks at a service. Returns it if its process runs and is followed.
    ///
    /// `status` is its status, and `before` the result of the last look. As long as the process is
    /// the same, nothing else is read.
    pub fn look(dir: ServiceDir, status: Option<Status>, before: Option<Self>) -> Option<Self> {
        let status = status.filter(Status::is_up)?;
        let pid = status.pid?.get();
        if let Some(before) = before
            && before.life.pid == pid
            && before.status.changed == status.changed
        {
            return Some(Self { status, ..before });
        }
        let said = of_service(dir.path(), pid)?;
        let settings = said.settings().filter(|settings| settings.policy != LivePolicy::Off)?;
        let start_ticks = Process::of(pid)?.began;
        let life = Life { pid, start_ticks };
        let (scandir, name) = (dir.path().parent()?, dir.path().file_name()?.to_str()?);
        let processes = ServiceProcesses::of_running(pid, scandir, name);
        let (waits, unsaid) = (Waits::default(), Said::default());
        Some(Self { dir, status, life, live: said, settings, waits, said: unsaid, processes })
    }

    /// Returns whether its process is still the one that it was.
    pub fn is_same(&self) -> bool {
        Process::of(self.life.pid).is_some_and(|process| process.began == self.life.start_ticks)
    }

    /// Returns the ages of the beats that it must have, the cheapest first.
    pub fn beats(
        &mut self,
        service: &mut FollowedService,
        now: Attended,
    ) -> [(EvidenceKind, Option<BeatAge>); 2] {
        let heartbeat = self.heartbeat(&mut service.beat, now);
        let notified = self.notified(&mut service.notified, now);
        [(EvidenceKind::Notify, notified), (EvidenceKind::Heartbeat, heartbeat)]
    }

    /// Returns the age of its heartbeat, if it must have one.
    fn heartbeat(&self, beat: &mut Beat, now: Attended) -> Option<BeatAge> {
        let heartbeat = self.live.heartbeat.as_ref()?;
        let file = Path::new(&heartbeat.file);
        if let Some(mark) = mark(file)
            && beat.is_new(mark)
        {
            let is_first = beat.is_first();
            beat.seen(mark, is_own(file, self.life.pid, is_first), now);
        }
        Some(beat.age_of(heartbeat.max_age_ms, now))
    }

    /// Returns the age of its last notification, if it must send some and somebody receives them.
    fn notified(&mut self, beat: &mut Beat, now: Attended) -> Option<BeatAge> {
        if !self.live.notify {
            return None;
        }
        if let Some(said) = said_of(self.dir.path(), self.life.pid) {
            if said.failed {
                *beat = Beat::default();
            } else if said.words != self.said.words {
                beat.refresh(now.plus(said.extended_until_ms.saturating_sub(monotonic_ms())));
            }
            self.said = said;
        }
        let age = beat.age_of(notify::max_age_ms(&self.settings), now);
        // A gateway whose notifications nobody receives is not blamed for sending none.
        let is_told = age == BeatAge::Fresh || notify::is_received(&self.dir.path().join(notify::SOCKET));
        is_told.then_some(age)
    }

    /// Returns whether notifications are the only evidence that needs no question.
    pub const fn only_notifies(&self) -> bool {
        self.live.notify && self.live.heartbeat.is_none()
    }

    /// Returns the answer, unless it came from a port that certainly belongs to another process.
    pub fn counted(&mut self, answer: ProbeAnswer, address: Option<SocketAddr>) -> ProbeAnswer {
        let Some(address) = address.filter(|_| !matches!(answer, ProbeAnswer::None(_))) else {
            return answer;
        };
        let listeners = Sockets::now().map(|sockets| sockets.listeners(address)).unwrap_or_default();
        match self.processes.whose(&listeners) {
            Whose::Another(who) => {
                let port = address.port();
                ProbeAnswer::None(format!("port {port} is held by {who}, and not by this gateway"))
            }
            Whose::Own | Whose::Unknown(_) => answer,
        }
    }

    /// Returns what its supervisor tells of this life.
    ///
    /// If the settings name an address for that, only this address shows that a start is over.
    pub fn supervisor_says(&self) -> SupervisorSays {
        let ready = self.status.ready && self.startup().is_none();
        SupervisorSays { wanted: self.status.want_up, ready }
    }

    /// Returns a finding, with what a gateway that works reports about itself. A process that a
    /// signal has stopped does not work, even if the kernel accepts connections in its place, or if
    /// its last sign of life is young.
    pub fn as_it_is(&self, finding: LiveFinding) -> LiveFinding {
        let kind = match finding {
            LiveFinding::Alive(kind) | LiveFinding::Degraded(kind, _) | LiveFinding::Draining(kind, _) => {
                kind
            }
            other => return other,
        };
        if is_stopped_by_signal(self.life.pid) {
            let why = format!("{kind}: alive until it was stopped by a signal");
            return LiveFinding::Missing { kind, why, hindered: None, stopped: true };
        }
        self.in_its_own_words(finding)
    }

    /// Returns a finding, with what a gateway that works reports about itself.
    fn in_its_own_words(&self, finding: LiveFinding) -> LiveFinding {
        let LiveFinding::Alive(kind) = finding else { return finding };
        if self.said.stopping {
            return LiveFinding::Draining(kind, "it says that it is about to end".to_owned());
        }
        let Some((state, value)) =
            self.live.state.as_ref().and_then(|state| Some((state, self.value(state)?)))
        else {
            return finding;
        };
        let reason = format!("`{}` is {value}", state.key);
        if state.draining.contains(&value) {
            LiveFinding::Draining(kind, reason)
        } else if state.degraded.contains(&value) {
            LiveFinding::Degraded(kind, reason)
        } else {
            finding
        }
    }

    /// Returns what its state file says, if the file is of this run.
    fn value(&self, state: &StateFile) -> Option<String> {
        let bytes = read_bounded(Path::new(&state.file), BEAT_BYTES).ok()??;
        let object = serde_json::from_slice::<Value>(&bytes).ok()?;
        let value = object.get(&state.key)?.as_str()?.to_owned();
        is_of_this_process(&object, self.life.pid).then_some(value)
    }

    /// Returns the question that alone shows that a start is over, if there is one.
    pub fn startup(&self) -> Option<Question> {
        let startup = self.live.startup.as_ref()?;
        http::parse_url(&startup.url).ok().map(Question::Startup)
    }

    /// Returns the question which parts of a working gateway do not work, if there is one.
    pub fn health(&self) -> Option<Question> {
        let health = self.live.health.as_ref()?;
        let target = http::parse_url(&health.url).ok()?;
        Some(Question::Health(target, health.failing.clone()))
    }

    /// Returns the questions, the cheapest first. A command is executed in `directory`.
    pub fn questions(&self, directory: PathBuf) -> Vec<Question> {
        let socket = self.live.socket.as_ref().map(|socket| {
            Question::Unix(socket.path.clone().into(), socket.send.clone().map(String::into_bytes))
        });
        let target = |url: &str| http::parse_url(url).ok();
        let http = self.live.http.as_ref().and_then(|http| target(&http.url)).map(Question::Http);
        let tcp = self.live.tcp.as_ref().and_then(|tcp| target(&tcp.url));
        let tcp = tcp.map(|target| Question::Tcp(target.addresses));
        let command = self.live.command.as_ref().map(|command| {
            let argv = command.argv.iter().map(OsString::from).collect();
            Question::Command(Evidence { argv, directory, timeout_ms: command.timeout_ms })
        });
        socket.into_iter().chain(http).chain(tcp).chain(command).collect()
    }
}

/// Returns the finding if the evidence without a question is enough. Otherwise returns the
/// questions, and why they are needed.
pub(super) fn by_itself(
    ages: &[(EvidenceKind, Option<BeatAge>)],
    questions: Vec<Question>,
) -> Result<LiveFinding, (Vec<Question>, Vec<String>)> {
    match LiveFinding::of_beats(ages) {
        // A question may show that it works already.
        Some(LiveFinding::Early) if !questions.is_empty() => {}
        Some(finding) => return Ok(finding),
        None => {}
    }
    if questions.is_empty() && ages.iter().all(|(_, age)| age.is_none()) {
        return Ok(LiveFinding::Nothing);
    }
    let why = ages.iter().filter_map(|(kind, age)| match age {
        Some(BeatAge::Old(age)) => Some(format!("{kind}: {} s old", age / 1000)),
        Some(BeatAge::None) => Some(format!("{kind}: none yet")),
        Some(BeatAge::Fresh | BeatAge::Early) | None => None,
    });
    Err((questions, why.collect()))
}

/// Returns what distinguishes a version of a file from the next.
fn mark(file: &Path) -> Option<BeatMark> {
    let (parent, name) = by_path::parent(file).ok()?;
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    let changed = (stat.st_mtime, stat.st_mtime_nsec);
    Some(BeatMark { changed, inode: stat.st_ino, size })
}

/// Returns whether a heartbeat is of the process that runs now, or does not name any.
///
/// Only whoever runs rewrites it. So the times in it count only in the `first` version that was
/// seen, which an earlier process with this number may have left.
fn is_own(file: &Path, leader: i32, first: bool) -> bool {
    let Ok(Some(bytes)) = read_bounded(file, BEAT_BYTES) else { return false };
    let Ok(object) = serde_json::from_slice(&bytes) else { return true };
    named(&object).is_none_or(|pid| {
        descends(pid, leader) && !(first && (is_of_another(&object, pid) || is_older(&object, pid)))
    })
}

/// Returns whether an object is of the process that runs now, or does not name any.
pub(crate) fn is_of_this_process(object: &Value, leader: i32) -> bool {
    named(object).is_none_or(|pid| descends(pid, leader) && !is_of_another(object, pid))
}

/// Returns the process that an object names; one that cannot exist is 0.
fn named(object: &Value) -> Option<i32> {
    let pid = object.get("pid").and_then(Value::as_i64)?;
    Some(i32::try_from(pid).unwrap_or(0))
}

/// Returns whether an object says that its process began at another time than the one that has its
/// number now.
fn is_of_another(object: &Value, pid: i32) -> bool {
    let began = object.get("start_time").and_then(Value::as_u64).filter(|ticks| *ticks < TICKS);
    began.is_some_and(|began| Process::of(pid).is_some_and(|process| began != process.began))
}

/// Returns whether an object says that it was written before the process with this number began, in
/// this boot of the machine or in an earlier one.
fn is_older(object: &Value, pid: i32) -> bool {
    let seconds = object.get("monotonic").and_then(Value::as_f64);
    let Some(at) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        return false;
    };
    let began_ms = Process::of(pid).and_then(|process| u64::try_from(process.began_monotonic_ms()).ok());
    let is_before = began_ms.is_some_and(|ms| at.saturating_add(SLACK) < Duration::from_millis(ms));
    is_before || at > Duration::from_millis(monotonic_ms()).saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_heartbeat_counts_if_it_is_of_this_process_or_does_not_say_whose_it_is() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("beat");
        assert!(!is_own(&file, 1, false));
        let own = std::process::id().cast_signed();
        for (text, is) in [
            (format!("{{\"pid\": {own}}}"), true),
            (format!("{{\"pid\": {}}}", i32::MAX), false),
            ("{\"pid\": 99999999999}".to_owned(), false),
            ("1700000000".to_owned(), true),
            (String::new(), true),
        ] {
            fs::write(&file, &text).unwrap();
            assert_eq!(is_own(&file, own, false), is, "{text}");
            assert_eq!(is_own(&file, own, true), is, "{text}");
        }
        let first = mark(&file).unwrap();
        assert_eq!(mark(&file), Some(first));
        fs::write(home.path().join("new"), "").unwrap();
        fs::rename(home.path().join("new"), &file).unwrap();
        assert_ne!(mark(&file), Some(first));
    }

    #[test]
    fn what_an_earlier_process_of_this_number_has_left_says_nothing_of_this_one() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("beat");
        let own = std::process::id().cast_signed();
        let began = Process::of(own).unwrap().began;
        let now_s = monotonic_ms() / 1000;
        for (times, is_state, is_first_beat) in [
            (format!("\"start_time\": {began}"), true, true),
            (format!("\"start_time\": {}", began - 1), false, false),
            (format!("\"start_time\": {}", began + 1), false, false),
            // Seconds since 1970, as Hermes has them in its heartbeat.
            ("\"start_time\": 1796025013.9".to_owned(), true, true),
            ("\"start_time\": 1796025013".to_owned(), true, true),
            (format!("\"monotonic\": {now_s}"), true, true),
            ("\"monotonic\": 0.5".to_owned(), true, false),
            (format!("\"monotonic\": {}", now_s + 1000), true, false),
            ("\"monotonic\": \"0.5\", \"start_time\": null".to_owned(), true, true),
        ] {
            let text = format!("{{\"pid\": {own}, {times}}}");
            let object = serde_json::from_str(&text).unwrap();
            assert_eq!(is_of_this_process(&object, own), is_state, "{text}");
            fs::write(&file, &text).unwrap();
            assert_eq!(is_own(&file, own, true), is_first_beat, "{text}");
            assert!(is_own(&file, own, false), "it was rewritten meanwhile: {text}");
        }
    }
}
