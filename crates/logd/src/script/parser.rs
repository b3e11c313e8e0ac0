//! Parses directives into a script.
//!
//! *Lives here:* the language, its defaults and limits, and s6-log's words for mistakes in a
//! script.
//! *Does not live here:* executing it.

use super::pattern::Pattern;

/// The smallest size in bytes at which a file is rotated.
const SMALLEST: u32 = 4096;
/// The largest size in bytes at which a file is rotated.
const LARGEST: u32 = 268_435_455;

/// A logging script: the processing of each line, in this order.
#[derive(Debug, Clone)]
pub struct Script {
    /// Selections, each followed by the actions on the lines that are selected then.
    pub steps: Vec<ScriptStep>,
    /// Whether the last directives lead to no action, which causes a warning.
    pub has_extra: bool,
}

/// Selections and the actions after them.
#[derive(Debug, Clone, Default)]
pub struct ScriptStep {
    /// The changes of the selection, in this order.
    pub selections: Vec<Selection>,
    /// The actions on a line that is selected then.
    pub actions: Vec<ScriptAction>,
}

/// A selection directive.
#[derive(Debug, Clone)]
pub enum Selection {
    /// `f`: selects a line on which no action was performed so far.
    Unacted,
    /// `+`: selects a matching line.
    Select(Pattern),
    /// `-`: deselects a matching line.
    Deselect(Pattern),
}

/// An action on a selected line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptAction {
    /// `t`: a TAI64N stamp comes first.
    pub tai64n: bool,
    /// `T`: the local date and time come next.
    pub iso: bool,
    /// `p`: the text before the line, including its blank.
    pub prefix: Vec<u8>,
    /// The destination of the line.
    pub destination: Destination,
}

/// The destination of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `1`: standard output.
    Stdout,
    /// `2`: standard error, at most this many bytes; 0 means no limit.
    Alert(usize),
    /// `=file`: a file that holds nothing else, of this many bytes; 0 means as long as the line.
    Status {
        /// Where it is, as the script names it.
        file: Vec<u8>,
        /// Its size in bytes.
        size: usize,
    },
    /// A log directory.
    Logdir(LogdirSpec),
}

/// A log directory and its rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogdirSpec {
    /// Its path as written.
    pub path: Vec<u8>,
    /// `n`: the number of archives to keep.
    pub keep: u32,
    /// `s`: the size in bytes that `current` should not exceed.
    pub size: u32,
    /// `l`: how many bytes below that size it is rotated.
    pub tolerance: u32,
    /// `S`: bytes of all archives together; 0 means no limit.
    pub total: u64,
    /// `r`: milliseconds after which a failed step is tried again.
    pub cooldown_ms: u32,
    /// `!` or `?`: the command that processes an archive.
    pub processor: Option<Processor>,
}

/// A command that processes a file before it becomes an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processor {
    /// `!`: a line for `execlineb -Pc`.
    Execline(Vec<u8>),
    /// `?`: a line for `/bin/sh -c`.
    Shell(Vec<u8>),
}

/// Why there is no valid script, in s6-log's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A directive does not exist, or its number or expression is invalid.
    #[error("unrecognized directive: {}", .0.escape_ascii())]
    Unrecognized(Vec<u8>),
    /// A directive without an argument has one, or a directive lacks its argument.
    #[error("syntax error at directive: {}", .0.escape_ascii())]
    Syntax(Vec<u8>),
    /// The tolerance is more than half of the size.
    #[error("directive {} conflicts with previous s directive", .0.escape_ascii())]
    Conflict(Vec<u8>),
    /// There is no action.
    #[error("no action directive specified")]
    NoAction,
}

/// Returns the script of these directives.
pub fn parse(directives: &[&[u8]]) -> Result<Script, ScriptError> {
    // As in s6-log, the shape of all directives is checked first, so that of two mistakes the same
    // one is reported.
    let has_extra = check_shapes(directives)?;
    let mut reading = ScriptReader::new();
    for directive in directives {
        reading.take(directive)?;
    }
    reading.end_step();
    Ok(Script { steps: reading.steps, has_extra })
}

/// Checks the shape of each directive, and returns whether some lead to no action.
fn check_shapes(directives: &[&[u8]]) -> Result<bool, ScriptError> {
    let mut acted = false;
    let mut any = false;
    for directive in directives {
        let (kind, rest) = directive.split_first().unwrap_or((&0, &[]));
        match kind {
            b'f' | b't' | b'T' | b'1' | b'2' if !rest.is_empty() => {
                return Err(ScriptError::Syntax(directive.to_vec()));
            }
            b'=' if rest.is_empty() => return Err(ScriptError::Syntax(directive.to_vec())),
            b'f' | b'+' | b'-' => acted = false,
            b'1' | b'2' | b'=' | b'.' | b'/' => (acted, any) = (true, true),
            b'n' | b's' | b'S' | b'l' | b'r' | b'E' | b'^' | b'p' | b'!' | b'?' | b't' | b'T' => {}
            _ => return Err(ScriptError::Unrecognized(directive.to_vec())),
        }
    }
    if any { Ok(!acted) } else { Err(ScriptError::NoAction) }
}

/// The settings by the directives so far.
struct ScriptReader {
    steps: Vec<ScriptStep>,
    step: ScriptStep,
    logdir: LogdirSpec,
    alert: usize,
    status: usize,
    prefix: Vec<u8>,
    tai64n: bool,
    iso: bool,
}

impl ScriptReader {
    fn new() -> Self {
        let logdir = LogdirSpec {
            path: Vec::new(),
            keep: 10,
            size: 99_999,
            tolerance: 2000,
            total: 0,
            cooldown_ms: 2000,
            processor: None,
        };
        Self {
            steps: Vec::new(),
            step: ScriptStep::default(),
            logdir,
            alert: 200,
            status: 1001,
            prefix: Vec::new(),
            tai64n: false,
            iso: false,
        }
    }

    fn take(&mut self, directive: &[u8]) -> Result<(), ScriptError> {
        let wrong = || ScriptError::Unrecognized(directive.to_vec());
        let (kind, rest) = directive.split_first().ok_or_else(wrong)?;
        let size = || number(rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong);
        let small = || number(rest).and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong);
        match kind {
            b'f' => self.select(Selection::Unacted),
            b'+' => self.select(Selection::Select(Pattern::new(rest).ok_or_else(wrong)?)),
            b'-' => self.select(Selection::Deselect(Pattern::new(rest).ok_or_else(wrong)?)),
            b'n' => self.logdir.keep = small()?,
            b's' => self.logdir.size = small()?.clamp(SMALLEST, LARGEST),
            b'S' => self.logdir.total = number(rest).ok_or_else(wrong)?,
            b'l' => {
                self.logdir.tolerance = small()?;
                if self.logdir.tolerance > self.logdir.size / 2 {
                    return Err(ScriptError::Conflict(directive.to_vec()));
                }
            }
            b'r' => self.logdir.cooldown_ms = small()?,
            b'E' => self.alert = size()?,
            b'^' => self.status = size()?,
            b'p' if rest.is_empty() => self.prefix.clear(),
            b'p' => self.prefix = [rest, b" "].concat(),
            b'!' => self.logdir.processor = some(rest).map(Processor::Execline),
            b'?' => self.logdir.processor = some(rest).map(Processor::Shell),
            b't' => self.tai64n = true,
            b'T' => self.iso = true,
            b'1' => self.act(Destination::Stdout),
            b'2' => self.act(Destination::Alert(self.alert)),
            b'=' => self.act(Destination::Status { file: rest.to_vec(), size: self.status }),
            b'.' | b'/' => {
                let logdir = LogdirSpec { path: directive.to_vec(), ..self.logdir.clone() };
                self.act(Destination::Logdir(logdir));
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn select(&mut self, selection: Selection) {
        if !self.step.actions.is_empty() {
            self.end_step();
        }
        self.step.selections.push(selection);
    }

    fn act(&mut self, destination: Destination) {
        let action =
            ScriptAction { tai64n: self.tai64n, iso: self.iso, prefix: self.prefix.clone(), destination };
        (self.tai64n, self.iso) = (false, false);
        self.step.actions.push(action);
    }

    /// Ends a step. Selections without an action have no effect, and are dropped.
    fn end_step(&mut self) {
        let step = std::mem::take(&mut self.step);
        if !step.actions.is_empty() {
            self.steps.push(step);
        }
    }
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then(|| bytes.to_vec())
}

/// Returns the number of these decimal digits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Script, String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse(&words).map_err(|error| error.to_string())
    }

    fn logdir(script: &Script) -> LogdirSpec {
        let mut found = script.steps.iter().flat_map(|step| &step.actions).filter_map(|action| match &action
            .destination
        {
            Destination::Logdir(logdir) => Some(logdir.clone()),
            _ => None,
        });
        found.next().unwrap()
    }

    #[test]
    fn the_usual_script_is_understood() {
        let script = read("1 n10 s1000000 T /var/log/x").unwrap();
        assert_eq!(script.steps.len(), 1);
        let [show, keep] = &*script.steps[0].actions else { panic!("{script:?}") };
        assert_eq!((show.iso, &show.destination), (false, &Destination::Stdout));
        assert!(keep.iso && !keep.tai64n);
        let logdir = logdir(&script);
        assert_eq!((logdir.keep, logdir.size, logdir.tolerance), (10, 1_000_000, 2000));
        assert_eq!(logdir.path, b"/var/log/x");
    }

    #[test]
    fn defaults_of_the_script_are_those_of_the_manual() {
        let logdir = logdir(&read("./d").unwrap());
        let expected = LogdirSpec {
            path: b"./d".to_vec(),
            keep: 10,
            size: 99_999,
            tolerance: 2000,
            total: 0,
            cooldown_ms: 2000,
            processor: None,
        };
        assert_eq!(logdir, expected);
        let script = read("2 =s").unwrap();
        let destinations: Vec<_> = script.steps[0].actions.iter().map(|a| &a.destination).collect();
        let status = Destination::Status { file: b"s".to_vec(), size: 1001 };
        assert_eq!(destinations, [&Destination::Alert(200), &status]);
    }

    #[test]
    fn stamps_hold_for_one_action_and_the_rest_until_it_is_changed() {
        let script = read("t T pa 1 1 p n3 ./a s5000 ./b").unwrap();
        let actions = &script.steps[0].actions;
        let seen: Vec<_> =
            actions.iter().map(|a| (a.tai64n, a.iso, String::from_utf8(a.prefix.clone()).unwrap())).collect();
        let plain = (false, false, String::new());
        assert_eq!(seen, [(true, true, "a ".into()), (false, false, "a ".into()), plain.clone(), plain]);
        assert!(matches!(&actions[3].destination, Destination::Logdir(l) if (l.keep, l.size) == (3, 5000)));
    }

    #[test]
    fn sizes_are_brought_into_their_bounds() {
        assert_eq!(logdir(&read("s1 ./d").unwrap()).size, 4096);
        assert_eq!(logdir(&read("s4294967295 ./d").unwrap()).size, 268_435_455);
    }

    #[test]
    fn a_selection_after_an_action_begins_a_step() {
        let script = read("- +a 2 f n5 ./d").unwrap();
        assert_eq!(script.steps.iter().map(|s| s.selections.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(!script.has_extra);
        assert!(read("./d +a").unwrap().has_extra);
        assert!(!read("./d n5 t").unwrap().has_extra, "s6-log does not warn of these");
    }

    #[test]
    fn mistakes_are_reported_in_s6_logs_words() {
        for (line, words) in [
            ("", "unrecognized directive: "),
            ("x ./d", "unrecognized directive: x"),
            ("e", "unrecognized directive: e"),
            ("fx ./d", "syntax error at directive: fx"),
            ("1x", "syntax error at directive: 1x"),
            ("=", "syntax error at directive: ="),
            ("n5", "no action directive specified"),
            ("+a", "no action directive specified"),
            ("n ./d", "unrecognized directive: n"),
            ("n4294967296 ./d", "unrecognized directive: n4294967296"),
            ("n-1 ./d", "unrecognized directive: n-1"),
            ("s1 l3000 ./d", "directive l3000 conflicts with previous s directive"),
            ("+( ./d", "unrecognized directive: +("),
            // Of two mistakes, the one of shape is reported.
            ("nx tt ./d", "syntax error at directive: tt"),
        ] {
            assert_eq!(read(line).map(|_| ()), Err(words.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_processor_is_set_and_unset() {
        let script: [&[u8]; 2] = [b"!gzip -nq9", b"./d"];
        assert_eq!(
            logdir(&parse(&script).unwrap()).processor,
            Some(Processor::Execline(b"gzip -nq9".to_vec()))
        );
        let script: [&[u8]; 3] = [b"?a|b", b"!", b"./d"];
        assert_eq!(logdir(&parse(&script).unwrap()).processor, None);
    }

    proptest! {
        #[test]
        fn any_words_are_a_script_or_a_mistake(
            words in proptest::collection::vec(
                prop_oneof![
                    "[a-zA-Z1-9=./^!?+-][0-9a-z\\[\\](){}*+?.|^$\\\\]{0,6}".prop_map(String::into_bytes),
                    proptest::collection::vec(any::<u8>(), 0..8),
                ],
                0..8,
            )
        ) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            if let Ok(script) = parse(&words) {
                prop_assert!(!script.steps.is_empty());
                prop_assert!(script.steps.iter().all(|step| !step.actions.is_empty()));
            }
        }
    }
}
