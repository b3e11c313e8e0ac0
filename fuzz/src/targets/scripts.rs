//! Scripts of s6-log, and what the log daemon makes of a stream.

use std::sync::OnceLock;

use gatevisor_logd::BatchTime;
use gatevisor_logd::directory::stamp::{Stamp, Stamper};
use gatevisor_logd::pipeline::compose::{Composed, Composer, DECIDED_BY, Spec};
use gatevisor_logd::script::{Destination, ScriptError, Selection, parse};
use gatevisor_slot::{Patterns, Rate, Timestamp};
use gatevisor_wire::log_script::{LogScript, LogStamp};

/// The whole language of s6-log; each line is a directive.
pub fn log_directives(bytes: &[u8]) {
    let directives: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let count = |firsts: &[u8]| {
        directives.iter().filter(|word| word.first().is_some_and(|first| firsts.contains(first))).count()
    };
    let script = match parse(&directives) {
        Ok(script) => script,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            match error {
                ScriptError::Unrecognized(word) | ScriptError::Syntax(word) | ScriptError::Conflict(word) => {
                    assert!(directives.contains(&&*word));
                }
                ScriptError::NoAction => assert_eq!(count(b"12=./"), 0),
            }
            return;
        }
    };
    let actions: usize = script.steps.iter().map(|step| step.actions.len()).sum();
    assert_eq!(actions, count(b"12=./"), "every action is done, and nothing else");
    for step in &script.steps {
        assert!(!step.actions.is_empty());
        for selection in &step.selections {
            if let Selection::Select(pattern) | Selection::Deselect(pattern) = selection {
                let _ = pattern.matches(bytes);
            }
        }
        for action in &step.actions {
            assert!(action.prefix.is_empty() || action.prefix.ends_with(b" "));
            if let Destination::Logdir(logdir) = &action.destination {
                assert!(directives.contains(&&*logdir.path));
                assert!((4096..=268_435_455).contains(&logdir.size));
            }
        }
    }
    let last = directives
        .iter()
        .rev()
        .find(|word| matches!(word[0], b'f' | b'+' | b'-' | b'1' | b'2' | b'=' | b'.' | b'/'));
    assert_eq!(script.has_extra, last.is_some_and(|word| matches!(word[0], b'f' | b'+' | b'-')));
}

/// The first line of a `log/run`: a line that the daemon executes itself means the same to s6-log.
pub fn log_script(bytes: &[u8]) {
    let Some(script) = LogScript::from_file(bytes) else { return };
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    assert_eq!(LogScript::from_file(&bytes[..=end]), Some(script), "only the first line counts");
    assert_eq!(LogScript::from_file(&bytes[..end]), None, "a line without its end may have been cut");
    let LogScript { forward, stamp, keep, size, total, directory } = script;
    assert!(!directory.contains('$'));
    let line = str::from_utf8(&bytes[..end]).unwrap().strip_prefix("#!").unwrap();
    let directives: Vec<&[u8]> = line.split_ascii_whitespace().skip(1).map(str::as_bytes).collect();
    let whole = parse(&directives).expect("s6-log would take it");
    assert!(!whole.has_extra && whole.steps.len() == 1 && whole.steps[0].selections.is_empty());
    let mut actions = whole.steps[0].actions.iter();
    if forward {
        let shown = actions.next().unwrap();
        assert!(shown.destination == Destination::Stdout && !shown.tai64n && !shown.iso);
    }
    let written = actions.next().unwrap();
    assert!(actions.next().is_none() && written.prefix.is_empty());
    assert_eq!((written.tai64n, written.iso), (stamp == LogStamp::Tai64n, stamp == LogStamp::IsoLocal));
    let Destination::Logdir(logdir) = &written.destination else { panic!("it is no log directory") };
    assert_eq!((logdir.keep, logdir.size, logdir.total), (keep, size, total.unwrap_or(0)));
    assert_eq!((&*logdir.path, &logdir.processor), (directory.as_bytes(), &None));
}

fn patterns() -> Patterns {
    static PATTERNS: OnceLock<Patterns> = OnceLock::new();
    let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    PATTERNS.get_or_init(|| Patterns::new(&own(&["a", "^$"]), &own(&["ba"])).unwrap()).clone()
}

/// A stream, and the daemon that composes its lines.
struct Run {
    spec: Spec,
    composer: Composer,
    waiting: Vec<u8>,
    written: Vec<u8>,
    shown: Vec<u8>,
}

impl Run {
    fn new(spec: &Spec) -> Self {
        let composer = Composer::new(spec.clone());
        Self { spec: spec.clone(), composer, waiting: Vec::new(), written: Vec::new(), shown: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8], tick_ms: u64, last: bool) {
        self.waiting.extend_from_slice(bytes);
        let (now, stamp) = at(tick_ms);
        let (before, mut out) = (self.composer.state(), Composed::default());
        let n = self.composer.compose(&self.waiting, last, now, &stamp, &mut out);
        let consumed = &self.waiting[..n];
        // A restarted daemon, before these bytes or after them, goes on as if nothing had happened.
        let mut restarted = Composer::new(self.spec.clone());
        restarted.restore(before);
        let mut again = Composed::default();
        assert_eq!(restarted.compose(consumed, last, now, &stamp, &mut again), n);
        assert_eq!((&again.written, again.shown(consumed)), (&out.written, out.shown(consumed)));
        assert_eq!(restarted.state(), self.composer.state());
        assert_eq!(restarted.is_mid_line(), self.composer.is_mid_line());
        self.composer = Composer::new(self.spec.clone());
        self.composer.restore(restarted.state());
        self.written.extend_from_slice(&out.written);
        self.shown.extend_from_slice(out.shown(consumed));
        self.waiting.drain(..n);
        assert!(self.waiting.len() < DECIDED_BY && (!last || self.waiting.is_empty()));
    }
}

fn at(tick_ms: u64) -> (BatchTime, Stamp) {
    let seconds = i64::try_from(tick_ms / 1000).unwrap();
    (BatchTime { seconds, nanos: 0, tick_ms }, Stamper::new().stamp(Timestamp::Tai64n, seconds, 0))
}

/// The first byte chooses what is done with the lines. The second says how many of the next bytes
/// are lengths of pieces.
///
/// Wherever the stream is cut, and a restarted daemon takes over the state, the output is the same.
pub fn log_composer(bytes: &[u8]) {
    let [how, count, rest @ ..] = bytes else { return };
    let (lengths, mut stream) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let spec = Spec {
        patterns: (how & 1 != 0).then(patterns),
        rate: (how & 2 != 0).then(|| Rate { lines: 1 + u64::from(how >> 6), per_ms: 1000 }),
        stderr: how & 4 != 0,
        whole_lines: how & 8 != 0,
    };
    let mut whole = Run::new(&spec);
    whole.feed(stream, 5000, true);
    let (mut run, mut late) = (Run::new(&spec), Run::new(&spec));
    let mut tick = 5000;
    for length in lengths {
        let (piece, after) = stream.split_at(usize::from(*length).min(stream.len()));
        run.feed(piece, 5000, false);
        late.feed(piece, tick, false);
        tick += u64::from(*length) * 16;
        stream = after;
    }
    run.feed(stream, 5000, false);
    run.feed(b"", 5000, true);
    assert_eq!((&run.written, &run.shown), (&whole.written, &whole.shown));
    // Time only decides how many lines a rate lets through.
    late.feed(stream, tick, true);
    if spec.rate.is_none() {
        assert_eq!(late.shown, whole.shown);
    }
}
