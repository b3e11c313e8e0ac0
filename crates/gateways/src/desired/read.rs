//! *Lives here:* reading a state file, whatever is in it.
//!
//! *Does not live here:* what follows from it at boot (see [`crate::reconcile`]).

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use gatevisor_wire::exit::{Exit, ExitError, error_chain};

use super::origin::{ProfilePlace, origin};
use super::{Desired, DesiredOrigin, MAX_BYTES};
use crate::files::{ReadFileError, read_bounded};

/// States of a gateway that was running and was interrupted, so it counts as running.
///
/// **Source:** REC-7.
const TRANSIENT: [&str; 2] = ["draining", "degraded"];

/// Why a state file cannot be understood.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum ReadStateError {
    /// It is not a regular file, it is too long, or the kernel refused.
    #[error("`{}` cannot be read", path.display())]
    Read {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: ReadFileError,
    },
    /// It is not UTF-8.
    #[error("`{}` is not UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    /// It is not JSON.
    #[error("`{}` is not JSON: {message}", path.display())]
    Syntax {
        path: PathBuf,
        /// What the parser reports.
        message: String,
    },
    /// It is JSON, but not an object.
    #[error("`{}` holds {kind} where an object is expected", path.display())]
    NotAnObject {
        path: PathBuf,
        /// What it holds instead.
        kind: &'static str,
    },
}

impl ReadStateError {
    /// Returns the error with its cause, on one line and without the path.
    pub fn reason(&self, file: &str) -> String {
        match self {
            Self::Read { source, .. } => format!("{file}: {}", error_chain(source)),
            Self::NotUtf8 { .. } => format!("{file} is not UTF-8"),
            Self::Syntax { message, .. } => format!("{file} is not JSON: {message}"),
            Self::NotAnObject { kind, .. } => format!("{file} holds {kind} where an object is expected"),
        }
    }

    /// Returns whether the content is wrong, and not the access to it.
    pub(super) fn is_content(&self) -> bool {
        match self {
            Self::Read { source: ReadFileError::Io(error), .. } => {
                error.kind() == std::io::ErrorKind::PermissionDenied
                    || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
            }
            Self::Read { .. } | Self::NotUtf8 { .. } | Self::Syntax { .. } | Self::NotAnObject { .. } => true,
        }
    }
}

impl ExitError for ReadStateError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { source: ReadFileError::Io(_), .. } => Exit::System,
            Self::Read { .. } | Self::NotUtf8 { .. } | Self::Syntax { .. } | Self::NotAnObject { .. } => {
                Exit::No
            }
        }
    }
}

/// What a state file says about a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Recorded {
    /// The key `desired_state`, if it is a text.
    pub desired_state: Option<String>,
    /// The key `gateway_state`, which the gateway itself writes.
    pub gateway_state: Option<String>,
    /// Who set the desired state, when and why. If another program set it, our last record does not
    /// describe it.
    #[serde(flatten)]
    pub origin: DesiredOrigin,
    /// The state that a boot goes by.
    #[serde(skip)]
    pub prior: Prior,
}

impl Recorded {
    /// Returns what is known of a state file that cannot be read or understood.
    pub fn unknown(why: &str) -> Self {
        Self { origin: DesiredOrigin::unknown(why), ..Self::default() }
    }
}

/// The state before a boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Prior {
    /// There is no file, or it says nothing.
    #[default]
    None,
    /// The word that the file holds; another program may have written one that we do not know.
    State(String),
}

impl Prior {
    /// Returns whether a boot starts a gateway with this prior state.
    ///
    /// **Source:** REC-8.
    pub fn starts(&self) -> bool {
        matches!(self, Self::State(state) if state == Desired::Running.word())
    }

    /// Returns whether it is to be stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::State(state) if state == Desired::Stopped.word())
    }

    /// Returns the word, if there is one.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::State(word) => Some(word),
        }
    }
}

/// Returns what the state file `name` in `directory` says; `None` if it does not exist.
pub fn read(directory: &Path, name: &str) -> Result<Option<Recorded>, ReadStateError> {
    let whose = ProfilePlace::of(directory);
    Ok(read_object(&directory.join(name))?.map(|object| recorded(&object, &whose)))
}

/// Returns whether the state file `name` in `directory` says that a gateway is to be stopped. One
/// that cannot be read or understood does not.
pub fn is_stopped(directory: &Path, name: &str) -> bool {
    read(directory, name).ok().flatten().is_some_and(|recorded| recorded.prior.is_stopped())
}

/// Returns the desired state that one of our commands has recorded, and when; `None` if another
/// program has set it, if nothing tells who has, or if the file cannot be read.
pub fn read_commanded(directory: &Path, name: &str) -> Option<(Desired, Timestamp)> {
    commanded(&read_object(&directory.join(name)).ok()??, &ProfilePlace::of(directory))
}

/// Returns whether a recorded time is after a moment. Times are recorded to the millisecond.
pub(crate) fn is_later(at: Timestamp, than: Timestamp) -> bool {
    at.as_millisecond() > than.as_millisecond()
}

pub(super) fn commanded(object: &Map<String, Value>, place: &ProfilePlace) -> Option<(Desired, Timestamp)> {
    let origin = origin(object, place);
    origin.desired_by?;
    let desired = object.get("desired_state")?.as_str()?;
    let desired = [Desired::Running, Desired::Stopped].into_iter().find(|one| one.word() == desired)?;
    Some((desired, origin.desired_at?.parse().ok()?))
}

/// Returns the object that a state file holds.
pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, ReadStateError> {
    let bytes = match read_bounded(path, MAX_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(source) => return Err(ReadStateError::Read { path: path.to_owned(), source }),
    };
    parse(path, &bytes).map(Some)
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, ReadStateError> {
    let path = || path.to_owned();
    let text = str::from_utf8(bytes).map_err(|_| ReadStateError::NotUtf8 { path: path() })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(ReadStateError::NotAnObject { path: path(), kind: kind(&other) }),
        // The agent does not accept this as JSON either, and no editor shows the reason.
        Err(_) if text.starts_with('\u{feff}') => {
            let message = "it begins with a byte-order mark (U+FEFF)".to_owned();
            Err(ReadStateError::Syntax { path: path(), message })
        }
        Err(error) => Err(ReadStateError::Syntax { path: path(), message: error.to_string() }),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn recorded(object: &Map<String, Value>, whose: &ProfilePlace) -> Recorded {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    Recorded {
        desired_state: text("desired_state"),
        gateway_state: text("gateway_state"),
        origin: origin(object, whose),
        prior: prior(object),
    }
}

/// Returns the prior state: the desired state as it is, or else the gateway's own state. A run that
/// was interrupted counts as a run.
///
/// **Source:** REC-7.
fn prior(object: &Map<String, Value>) -> Prior {
    let word = |value: &Value| match value {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let present = |key: &str| object.get(key).filter(|value| !value.is_null());
    if let Some(desired_state) = present("desired_state") {
        return Prior::State(word(desired_state));
    }
    match present("gateway_state").map(word) {
        Some(state) if TRANSIENT.contains(&state.as_str()) => Prior::State("running".to_owned()),
        Some(state) => Prior::State(state),
        None => Prior::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use std::fs;

    #[track_caller]
    fn prior_of(text: &str) -> Prior {
        prior(&parse(Path::new("f"), text.as_bytes()).unwrap())
    }

    #[test]
    fn the_desired_state_goes_before_the_gateways_own_state() {
        for (text, word, starts) in [
            (r#"{"desired_state":"running","gateway_state":"startup_failed"}"#, Some("running"), true),
            (r#"{"desired_state":"stopped","gateway_state":"running"}"#, Some("stopped"), false),
            (r#"{"desired_state":null,"gateway_state":"running"}"#, Some("running"), true),
            (r#"{"gateway_state":"draining"}"#, Some("running"), true),
            (r#"{"gateway_state":"degraded"}"#, Some("running"), true),
            (r#"{"desired_state":"draining"}"#, Some("draining"), false),
            (r#"{"gateway_state":"starting"}"#, Some("starting"), false),
            (r#"{"gateway_state":"startup_failed"}"#, Some("startup_failed"), false),
            (r#"{"gateway_state":"Running"}"#, Some("Running"), false),
            (r#"{"desired_state":["running"]}"#, Some(r#"["running"]"#), false),
            (r#"{"desired_state":false,"gateway_state":"running"}"#, Some("false"), false),
            (r#"{"gateway_state":null}"#, None, false),
            ("{}", None, false),
        ] {
            let prior = prior_of(text);
            assert_eq!((prior.word(), prior.starts()), (word, starts), "{text}");
            assert_eq!(prior.is_stopped(), word == Some("stopped"), "{text}");
        }
    }

    #[test]
    fn a_missing_file_says_nothing_and_a_bad_one_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        assert_eq!(read(dir.path(), "s.json").unwrap(), None);
        let mut lines = Vec::new();
        let mut say = || {
            let error = read(dir.path(), "s.json").unwrap_err();
            let message = error.to_string().replace(&dir.path().display().to_string(), "DIR");
            lines.push(format!("{} {message} | {}", error.exit_code(), error.reason("s.json")));
        };
        for bytes in
            [&b"[1]"[..], b"", b"{", b"\xff{}", b"null", b"3", b"\xef\xbb\xbf{}", &vec![b' '; MAX_BYTES + 1]]
        {
            fs::write(&path, bytes).unwrap();
            say();
        }
        fs::write(&path, "[".repeat(200)).unwrap();
        say();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        say();
        assert_snapshot!(lines.join("\n"), @r#"
        1 `DIR/s.json` holds a list where an object is expected | s.json holds a list where an object is expected
        1 `DIR/s.json` is not JSON: EOF while parsing a value at line 1 column 0 | s.json is not JSON: EOF while parsing a value at line 1 column 0
        1 `DIR/s.json` is not JSON: EOF while parsing an object at line 1 column 1 | s.json is not JSON: EOF while parsing an object at line 1 column 1
        1 `DIR/s.json` is not UTF-8 | s.json is not UTF-8
        1 `DIR/s.json` holds null where an object is expected | s.json holds null where an object is expected
        1 `DIR/s.json` holds a number where an object is expected | s.json holds a number where an object is expected
        1 `DIR/s.json` is not JSON: it begins with a byte-order mark (U+FEFF) | s.json is not JSON: it begins with a byte-order mark (U+FEFF)
        1 `DIR/s.json` cannot be read | s.json: it is longer than 1048576 bytes
        1 `DIR/s.json` is not JSON: recursion limit exceeded at line 1 column 128 | s.json is not JSON: recursion limit exceeded at line 1 column 128
        1 `DIR/s.json` cannot be read | s.json: it is a directory, not a file
        "#);
    }

    #[test]
    fn provenance_is_read_back_and_a_strange_one_is_left_out() {
        let text = r#"{"desired_state":"stopped","desired_by":{"uid":7,"user":"u","command":"c","pid":9,"state":"stopped"},
            "desired_reason":"why","desired_at":"2026-01-01T00:00:00Z"}"#;
        let recorded = recorded(&parse(Path::new("f"), text.as_bytes()).unwrap(), &ProfilePlace::default());
        assert_eq!(recorded.origin.desired_by.unwrap().user, "u");
        assert_eq!(recorded.origin.desired_reason.as_deref(), Some("why"));
        let strange = parse(Path::new("f"), br#"{"desired_by":"me","desired_reason":3}"#).unwrap();
        assert_eq!(super::recorded(&strange, &ProfilePlace::default()), Recorded::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_object_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(object) = parse(Path::new("f"), &bytes) {
                let _ = recorded(&object, &ProfilePlace::default());
            }
        }
    }
}
