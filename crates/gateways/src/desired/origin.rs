//! *Lives here:* who set a desired state, according to the state file: one of our commands, another
//! program, or somebody unknown.
//!
//! *Does not live here:* reading and writing the file.
//!
//! Other programs change the desired state and keep keys that they do not know. Profiles are
//! renamed and copied, and files are restored from backups. So our record names the state that it
//! set, the profile, and the directory of the profile, and counts only for that state of that
//! profile. For every other state, nobody is named.

use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_sys::file::creation_mark;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{DesiredOrigin, Provenance};
use crate::profile::{PROFILES, ProfileName};

/// The profile to which a directory belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ProfilePlace {
    /// The profile's name, also of the root profile.
    pub name: String,
    directory: PathBuf,
}

impl ProfilePlace {
    pub(super) fn of(directory: &Path) -> Self {
        let is_named = directory.parent().is_some_and(|parent| parent.ends_with(PROFILES));
        let name = directory.file_name().filter(|_| is_named).map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| ProfileName::root().as_str().to_owned());
        Self { name, directory: directory.to_owned() }
    }

    /// Returns an identifier of the directory that a rename keeps and that no copy has. It is
    /// looked up only when it is needed, because the name of the profile mostly decides.
    pub(super) fn mark(&self) -> Option<String> {
        by_path::directory(&self.directory).ok().and_then(|it| creation_mark(it, ""))
    }
}

/// Returns who asked for the desired state, why and when.
pub(super) fn origin(object: &Map<String, Value>, place: &ProfilePlace) -> DesiredOrigin {
    if object.get("desired_state").is_none_or(Value::is_null) {
        return DesiredOrigin::default();
    }
    let Some(record) = object.get("desired_by").filter(|record| !record.is_null()) else {
        return without_record(object);
    };
    let of = record.get("profile").and_then(Value::as_str).filter(|of| *of != place.name);
    let mark = record.get("profile_mark").and_then(Value::as_str);
    if let Some(of) = of {
        match (mark, place.mark()) {
            (Some(then), Some(now)) if then == now => {}
            (Some(_), Some(_)) => {
                let why = format!("its state file is a copy of that of the profile {of}");
                return DesiredOrigin::unknown(why);
            }
            _ => {
                let why = format!("its state file was that of the profile {of}, which was renamed or copied");
                return DesiredOrigin::unknown(why);
            }
        }
    }
    DesiredOrigin { desired_as: of.map(str::to_owned), ..by_record(object, record) }
}

/// Returns the origin of a desired state with a record of ours in the same file.
fn by_record(object: &Map<String, Value>, record: &Value) -> DesiredOrigin {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let at = object.get("desired_at").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    let (ours, written) = (at.map(Timestamp::as_second), written_second(object));
    let is_same = record.get("state").is_some_and(|state| Some(state) == object.get("desired_state"));
    match ours.zip(written).map(|(ours, written)| written.cmp(&ours)) {
        Some(std::cmp::Ordering::Greater) => DesiredOrigin::another(written_at(object)),
        Some(std::cmp::Ordering::Less) if !is_same => {
            let at = text("desired_at").unwrap_or_default();
            DesiredOrigin::unknown(format!(
                "its state file holds a desired state that is older than the record beside it, of {at}; it was \
                 restored in part, or a clock was set"
            ))
        }
        _ if !is_same => DesiredOrigin::another(None),
        _ => match serde_json::from_value::<Provenance>(record.clone()) {
            Ok(by) => DesiredOrigin::said(by, text("desired_reason"), text("desired_at")),
            Err(_) => DesiredOrigin::unknown("the record beside it cannot be understood"),
        },
    }
}

/// Returns the origin of a desired state without a record of ours.
///
/// The agent's own command writes a number of seconds with a desired state, and we never write a
/// desired state without a record, except for another program and for a home of old.
fn without_record(object: &Map<String, Value>) -> DesiredOrigin {
    if written_second(object).is_some() {
        return DesiredOrigin::another(written_at(object));
    }
    if object.contains_key("migrated_from") {
        return DesiredOrigin::unknown("it was taken over from the command of an earlier container");
    }
    DesiredOrigin::unknown("its state file has no record beside the desired state")
}

/// Returns when the desired state was last written, if the file tells. A number of seconds is
/// written with a desired state. A text is written by the gateway, which has then overwritten the
/// number.
fn written_at(object: &Map<String, Value>) -> Option<String> {
    let at = Timestamp::from_second(written_second(object)?).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn written_second(object: &Map<String, Value>) -> Option<i64> {
    object.get("updated_at").and_then(Value::as_i64)
}
