//! *Lives here:* the file that tells a gateway that the signal which follows is a planned stop.
//!
//! *Does not live here:* sending the signal.
//!
//! **Source:** GW-5, L-2, L-3.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::proc::Process;
use gatevisor_wire::Pid;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, unlinkat};
use serde_json::{Map, Value};

use crate::agent::PlannedStop;
use crate::files::{open_directory, random_suffix, read_bounded};

/// The most bytes that a marker may have.
const MARKER_BYTES: usize = 64 << 10;
/// The value of `by` in a marker that we wrote.
const OURS: &str = "gatevisor";

/// Writes the marker into a gateway's home: this process is stopped on purpose, now.
///
/// The file is small and short-lived, so it is replaced atomically but not synced.
pub fn write(home: &Path, planned: &PlannedStop, target: Pid, now: Timestamp) -> io::Result<()> {
    let mut object = Map::new();
    let start_time = start_time(target).map_or(Value::Null, Value::from);
    object.insert("target_pid".to_owned(), Value::from(target.get()));
    object.insert("target_start_time".to_owned(), start_time);
    object.insert("stopper_pid".to_owned(), Value::from(std::process::id()));
    object.insert(
        "written_at".to_owned(),
        Value::from(now.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()),
    );
    // By this we recognize our own marker. The gateway does not know the key.
    object.insert("by".to_owned(), Value::from(OURS));
    let bytes = serde_json::to_vec(&object)?;
    let parent = open_directory(home)?;
    let temporary = format!(".{}.{}", planned.file, random_suffix());
    Ok(gatevisor_sys::file::replace(
        parent.as_fd(),
        &planned.file,
        &temporary,
        &bytes,
        Mode::from_raw_mode(0o644),
    )?)
}

/// The content of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The process that is to be stopped.
    pub target: Pid,
    /// When the process began, if the marker says so.
    target_start_time: Option<u64>,
    /// Whether we wrote it.
    pub is_ours: bool,
}

impl Announced {
    /// Returns whether the process that is to be stopped is still there.
    pub fn is_alive(&self) -> bool {
        let began = start_time(self.target);
        began.is_some() && self.target_start_time.is_none_or(|said| began == Some(said))
    }
}

/// Returns the content of a marker; `None` if there is none, or none that can be understood.
pub(crate) fn read(home: &Path, planned: &PlannedStop) -> Option<Announced> {
    let bytes = read_bounded(&home.join(&planned.file), MARKER_BYTES).ok()??;
    let object: Map<String, Value> = serde_json::from_slice(&bytes).ok()?;
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    Some(Announced {
        target: Pid::new(i32::try_from(number("target_pid")?).ok()?)?,
        target_start_time: number("target_start_time"),
        is_ours: object.get("by").and_then(Value::as_str) == Some(OURS),
    })
}

/// Removes a marker that its gateway did not remove.
pub fn clear(home: &Path, planned: &PlannedStop) {
    if let Ok(home) = by_path::directory(home) {
        let _ = unlinkat(home, &*planned.file, AtFlags::empty());
    }
}

/// Returns when a process started, in clock ticks since boot. Together with the pid, that
/// identifies a process.
pub fn start_time(pid: Pid) -> Option<u64> {
    Process::of(pid.get()).map(|process| process.began)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn me() -> Pid {
        Pid::new(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn a_marker_names_the_process_its_start_and_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let planned = PlannedStop { file: "marker.json".to_owned(), ttl_s: 60 };
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        write(dir.path(), &planned, me(), now).unwrap();
        let text = std::fs::read_to_string(dir.path().join("marker.json")).unwrap();
        let started = start_time(me()).unwrap();
        let text =
            text.replace(&std::process::id().to_string(), "PID").replace(&started.to_string(), "START");
        assert_snapshot!(text, @r#"{"target_pid":PID,"target_start_time":START,"stopper_pid":PID,"written_at":"2026-05-28T20:26:40.000000+00:00","by":"gatevisor"}"#);
        let announced = read(dir.path(), &planned).unwrap();
        assert!(announced.is_ours && announced.is_alive() && announced.target == me());
        clear(dir.path(), &planned);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
