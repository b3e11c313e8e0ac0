//! *Lives here:* finding out what work a gateway has.
//!
//! *Does not live here:* the decision that follows from it (`gatevisor_liveness::drain`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gatevisor_liveness::WorkShown;
use gatevisor_slot::http;
use serde_json::Value;

use super::asking::{AskingProcess, DrainTarget, OUTPUT_BYTES};
use crate::agent::{DrainDefinition, IdleDefinition, IdleSource, PathKey};
use crate::files::read_bounded;
use crate::live::is_of_this_process;

/// How long an address may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long all addresses of a name may take.
const ANSWERS: Duration = Duration::from_secs(10);

/// Returns whether it takes no time to find out what work the gateway has.
pub(super) fn is_at_hand(drain: &DrainDefinition) -> bool {
    matches!(drain.idle.source(), Some(IdleSource::File(_)) | None)
}

/// Returns what a gateway has shown of its work, if that is [at hand](is_at_hand).
pub(super) fn at_hand(target: &DrainTarget<'_>) -> Result<Vec<u8>, String> {
    let Some(IdleSource::File(file)) = target.drain.idle.source() else {
        return Err("the definition does not say where to look".to_owned());
    };
    let bytes = read_bounded(&target.home().join(file), OUTPUT_BYTES);
    let bytes = bytes.map_err(|error| format!("`{file}`: {error}"))?;
    bytes.ok_or_else(|| format!("there is no `{file}`"))
}

/// Starts the process that finds out what work the gateway has.
pub(super) fn start_look(target: &DrainTarget<'_>) -> Result<AskingProcess, String> {
    match target.drain.idle.source() {
        Some(IdleSource::Http(url, bearer)) => {
            let text = |text: &str| {
                let text = target.expanded(text)?.into_string();
                text.map_err(|_| "what the address is made of is not UTF-8".to_owned())
            };
            let (url, key) = (text(url)?, bearer.map(text).transpose()?);
            AskingProcess::start("http: the request".to_owned(), ANSWERS, |output| {
                let (text, code) = match get(&url, key.as_deref()) {
                    Ok(body) => (body, 0),
                    Err(why) => (why.into_bytes(), 1),
                };
                std::fs::File::from(output).write_all(&text).map_or(1, |()| code)
            })
        }
        Some(IdleSource::Command(argv, timeout_ms)) => target.start(argv, Duration::from_millis(timeout_ms)),
        Some(IdleSource::File(_)) | None => Err("nothing has to be asked".to_owned()),
    }
}

/// Returns the work of the gateway with this process, which has shown this.
pub(super) fn shown(idle: &IdleDefinition, pid: i32, answer: Result<Vec<u8>, String>) -> WorkShown {
    match answer.and_then(|bytes| parse(&bytes)) {
        Ok(object) if !is_of_this_process(&object, pid) => {
            WorkShown::Unknown("what it shows is of another process".to_owned())
        }
        Ok(object) => judge(idle, &object),
        Err(why) => WorkShown::Unknown(why),
    }
}

/// Parses a JSON object, also if there is other text before or after it.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(bytes);
    let all = text.find('{').zip(text.rfind('}')).and_then(|(first, last)| text.get(first..=last));
    let object = serde_json::from_str::<Value>(all.unwrap_or_default());
    object.map_err(|_| "what it shows is no JSON object".to_owned())
}

/// Requests an address on this machine, and returns the body of the answer.
fn get(url: &str, key: Option<&str>) -> Result<Vec<u8>, String> {
    let target = http::parse_url(url).map_err(|error| error.to_string())?;
    let mut request = target.request;
    if let Some(key) = key {
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the key for the address has characters that cannot be sent".to_owned());
        }
        // The request ends with an empty line.
        request.truncate(request.len().saturating_sub(2));
        request.extend_from_slice(format!("Authorization: Bearer {key}\r\n\r\n").as_bytes());
    }
    let mut why = "no address".to_owned();
    for address in target.addresses {
        match exchange(&address, &request) {
            Ok(answer) => return body(&answer),
            Err(error) => why = format!("http: {error}"),
        }
    }
    Err(why)
}

fn exchange(address: &std::net::SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(OUTPUT_BYTES).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer)?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    match http::status(answer) {
        Some(200..=299) => {}
        Some(status) => return Err(format!("http: it answers {status}")),
        None => return Err("http: that is no HTTP".to_owned()),
    }
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n");
    Ok(at.and_then(|at| answer.get(at..)).unwrap_or_default().to_vec())
}

/// What a path of keys leads to.
#[derive(Debug, Clone, Copy)]
enum WorkValue<'a> {
    Value(&'a Value),
    /// The list on the way has no such entry.
    NoEntry,
    Nothing,
}

fn value<'a>(object: &'a Value, path: &str) -> WorkValue<'a> {
    let mut at = object;
    for step in path.split('.') {
        let Some(step) = PathKey::parse(step) else { return WorkValue::Nothing };
        let Some(next) = at.get(step.key) else { return WorkValue::Nothing };
        let Some((key, text)) = step.entry else {
            at = next;
            continue;
        };
        let Some(list) = next.as_array() else { return WorkValue::Nothing };
        let is_meant = |entry: &&Value| entry.get(key).and_then(Value::as_str) == Some(text);
        let Some(entry) = list.iter().find(is_meant) else { return WorkValue::NoEntry };
        at = entry;
    }
    WorkValue::Value(at)
}

/// Returns how many turns a value counts.
fn counted(found: WorkValue<'_>) -> Option<u32> {
    match found {
        WorkValue::NoEntry => Some(0),
        WorkValue::Value(Value::Array(turns)) => Some(u32::try_from(turns.len()).unwrap_or(u32::MAX)),
        WorkValue::Value(value) => value.as_u64().map(|turns| u32::try_from(turns).unwrap_or(u32::MAX)),
        WorkValue::Nothing => None,
    }
}

/// Returns whether a value says that there is work.
fn says_busy(found: WorkValue<'_>) -> Option<bool> {
    match found {
        WorkValue::NoEntry => Some(false),
        WorkValue::Value(Value::Bool(busy)) => Some(*busy),
        WorkValue::Value(value) => value.as_u64().map(|count| count > 0),
        WorkValue::Nothing => None,
    }
}

/// Returns what work an object shows.
fn judge(idle: &IdleDefinition, object: &Value) -> WorkShown {
    let turns = match idle.turns.as_deref().map(|path| (path, counted(value(object, path)))) {
        None => None,
        Some((_, Some(turns))) => Some(turns),
        Some((path, None)) => return WorkShown::Unknown(format!("`{path}` is no number in what it shows")),
    };
    let busy = match idle.busy.as_deref().map(|path| (path, says_busy(value(object, path)))) {
        None => false,
        Some((_, Some(busy))) => busy,
        Some((path, None)) => {
            return WorkShown::Unknown(format!(
                "`{path}` is neither true nor false nor a number in what it shows"
            ));
        }
    };
    if idle.state.as_deref().is_some_and(|path| !says_draining(idle, value(object, path))) {
        return WorkShown::Accepting(turns);
    }
    if busy || turns.is_some_and(|turns| turns > 0) { WorkShown::Busy(turns) } else { WorkShown::Idle }
}

fn says_draining(idle: &IdleDefinition, state: WorkValue<'_>) -> bool {
    match state {
        WorkValue::Value(Value::Bool(is)) => idle.draining.is_empty() && *is,
        WorkValue::Value(Value::String(word)) => idle.draining.contains(word),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_gateway_shows_means_that_it_takes_work_has_some_or_has_none() {
        let define = |text: &str| toml::from_str::<IdleDefinition>(text).unwrap();
        let hermes = "file = \"f\"\nturns = \"n\"\nstate = \"s\"\ndraining = [\"draining\"]";
        let deep = "file = \"f\"\nturns = \"a.b\"\nbusy = \"a.busy\"\nstate = \"a.held\"";
        let busy = "file = \"f\"\nbusy = \"busy\"";
        let kinds = "file = \"f\"\nturns = \"all[kind=turn].count\"\nbusy = \"n\"";
        let entry = |kind: &str, count: u32, n: u32| json!({"n": n, "all": [{"kind": "queue", "count": 7}, {"kind": kind, "count": count}]});
        for (definition, object, expected) in [
            (hermes, json!({"s": "running", "n": 2}), WorkShown::Accepting(Some(2))),
            (hermes, json!({"s": "draining", "n": 2}), WorkShown::Busy(Some(2))),
            (hermes, json!({"s": "draining", "n": 0}), WorkShown::Idle),
            (hermes, json!({"n": 0}), WorkShown::Accepting(Some(0))),
            (hermes, json!({"s": true, "n": 0}), WorkShown::Accepting(Some(0))),
            (deep, json!({"a": {"b": [1, 2], "busy": false, "held": true}}), WorkShown::Busy(Some(2))),
            (deep, json!({"a": {"b": [], "busy": true, "held": true}}), WorkShown::Busy(Some(0))),
            (deep, json!({"a": {"b": [], "busy": false, "held": true}}), WorkShown::Idle),
            (deep, json!({"a": {"b": [], "busy": false, "held": false}}), WorkShown::Accepting(Some(0))),
            (busy, json!({"busy": true}), WorkShown::Busy(None)),
            (busy, json!({"busy": false}), WorkShown::Idle),
            (kinds, entry("turn", 2, 9), WorkShown::Busy(Some(2))),
            (kinds, entry("other", 2, 9), WorkShown::Busy(Some(0))),
            (kinds, json!({"n": 0, "all": []}), WorkShown::Idle),
        ] {
            assert_eq!(judge(&define(definition), &object), expected, "{object}");
        }
        for (definition, object) in [
            (hermes, json!({"s": "draining"})),
            (hermes, json!({"s": "draining", "n": -1})),
            (busy, json!([])),
            (kinds, json!({"n": 0})),
            (kinds, json!({"n": -1, "all": []})),
            (kinds, json!({"n": 0, "all": [{"kind": "turn"}]})),
        ] {
            assert!(matches!(judge(&define(definition), &object), WorkShown::Unknown(_)), "{object}");
        }
    }

    #[test]
    fn an_object_is_found_in_what_a_program_prints_around_it() {
        assert_eq!(parse(b"warning: old\n{\"a\": 1}\nbye\n"), Ok(json!({"a": 1})));
        assert!(parse(b"no").is_err() && parse(b"{").is_err() && parse(b"}{").is_err());
    }

    #[test]
    fn an_address_is_asked_with_the_key() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"busy\": false}").unwrap();
            String::from_utf8(request).unwrap()
        });
        assert_eq!(parse(&get(&url, Some("k")).unwrap()), Ok(json!({"busy": false})));
        let request = server.join().unwrap();
        assert!(request.contains("\r\nAuthorization: Bearer k\r\n\r\n"), "{request}");
        assert!(get(&url, Some("a\r\nb")).is_err() && get(&url, None).is_err(), "nobody listens any more");
    }
}
