//! Turns the bytes of a stream into the bytes for the file and for the console.
//!
//! *Lives here:* stamps, the choice of lines (`include`, `exclude`), the rate limit and its
//! announcements, the mark of standard error. No I/O and no clock: the result is a function of the
//! bytes, the state and the time, so a daemon that was restarted between two writes composes the
//! same bytes again.
//! *Does not live here:* the source and the destination of the bytes; the settings' format
//! (`gatevisor-slot`).
//!
//! There are two modes. In **plain** mode, nothing is left out: every byte is written as it comes,
//! including parts of lines, and the console gets the input itself. Otherwise lines are
//! **selected**: a line is decided on when it is complete, or by its first [`DECIDED_BY`] bytes if
//! it is longer, and stays in the input until then.

use gatevisor_slot::{Patterns, Rate};
use gatevisor_wire::log_directory::STDERR_MARK;

use super::stamping::{Stamping, split_line};
use crate::console::format::{CONTINUED, CONTINUES};
use crate::directory::stamp::Stamp;
use crate::time::BatchTime;

/// The number of bytes of a line that decide whether to keep it. The rest of a longer line follows
/// the decision.
pub const DECIDED_BY: usize = 8192;
/// Memory for composed bytes that is kept between batches; a batch of empty lines needs far more.
const KEPT_CAPACITY: usize = 256 << 10;

const MID_LINE: u64 = 1;
const DROPPING: u64 = 2;

/// The settings for the lines of a stream.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// The patterns that choose lines; without them, all lines are kept.
    pub patterns: Option<Patterns>,
    /// How many lines are kept within a time.
    pub rate: Option<Rate>,
    /// Whether this is the standard error of a service whose streams are distinguished. Its lines
    /// have the mark [`STDERR_MARK`].
    pub stderr: bool,
    /// Whether only whole lines are written, because another stream goes into the same file. A line
    /// longer than [`DECIDED_BY`] bytes is written in parts, each as a line that says so.
    pub whole_lines: bool,
}

impl Spec {
    /// Returns whether everything is written as it comes.
    pub const fn is_plain(&self) -> bool {
        self.patterns.is_none() && self.rate.is_none() && !self.stderr && !self.whole_lines
    }
}

/// The result for some bytes.
#[derive(Debug, Default)]
pub struct Composed {
    /// The bytes for the file.
    pub written: Vec<u8>,
    selected: Vec<u8>,
    is_selected: bool,
}

impl Composed {
    /// Returns the bytes for the console, given the consumed bytes.
    pub fn shown<'a>(&'a self, consumed: &'a [u8]) -> &'a [u8] {
        if self.is_selected { &self.selected } else { consumed }
    }

    fn clear(&mut self) {
        for buffer in [&mut self.written, &mut self.selected] {
            buffer.clear();
            buffer.shrink_to(KEPT_CAPACITY);
        }
    }
}

/// Composes one stream.
#[derive(Debug)]
pub struct Composer {
    plain: Stamping,
    selecting: Option<Box<Selecting>>,
}

impl Composer {
    /// Returns the state at the beginning of a stream.
    pub fn new(spec: Spec) -> Self {
        let selecting = (!spec.is_plain()).then(|| Box::new(Selecting::new(spec)));
        Self { plain: Stamping::new(), selecting }
    }

    /// Composes the next bytes of the stream into `out`, whose contents are replaced, and returns
    /// how many of them are consumed.
    ///
    /// In plain mode it consumes all. If lines are selected, the last line stays unconsumed until
    /// it is complete, until [`DECIDED_BY`] bytes of it are there, or until `last` tells that
    /// nothing follows. `now` is the time for the rate limit, and `stamp` is the text of the same
    /// time.
    pub fn compose(
        &mut self,
        input: &[u8],
        last: bool,
        now: BatchTime,
        stamp: &Stamp,
        out: &mut Composed,
    ) -> usize {
        out.clear();
        out.is_selected = self.selecting.is_some();
        match &mut self.selecting {
            None => {
                self.plain.compose(input, stamp.as_bytes(), &mut out.written);
                input.len()
            }
            Some(selecting) => selecting.compose(input, last, now, stamp, out),
        }
    }

    /// Returns whether the kept bytes end in the middle of a line.
    pub fn is_mid_line(&self) -> bool {
        self.selecting.as_ref().map_or(self.plain.is_mid_line(), |selecting| selecting.fate == Fate::Kept)
    }

    /// Returns the state as numbers, for [`Composer::restore`].
    pub fn state(&self) -> [u64; 4] {
        match &self.selecting {
            None => [if self.plain.is_mid_line() { MID_LINE } else { 0 }, 0, 0, 0],
            Some(selecting) => {
                let flags = match selecting.fate {
                    Fate::Open => 0,
                    Fate::Kept => MID_LINE,
                    Fate::Dropped => MID_LINE | DROPPING,
                };
                [flags, selecting.window_ms, selecting.used, selecting.left_out]
            }
        }
    }

    /// Restores a state from [`Composer::state`], of this composer or of another one with the same
    /// settings.
    pub fn restore(&mut self, state: [u64; 4]) {
        let [flags, window_ms, used, left_out] = state;
        let mid_line = flags & MID_LINE != 0;
        match &mut self.selecting {
            // If the settings have changed meanwhile, the rest of a line whose beginning was left
            // out must not become a line of its own; it is written without a stamp, as the rest of
            // a line.
            None => self.plain = Stamping::at(mid_line),
            Some(selecting) => {
                selecting.fate = match (mid_line, flags & DROPPING != 0) {
                    (false, _) => Fate::Open,
                    (true, false) => Fate::Kept,
                    (true, true) => Fate::Dropped,
                };
                selecting.window_ms = window_ms;
                selecting.used = used;
                selecting.left_out = left_out;
            }
        }
    }
}

/// The decision about the unfinished line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has not begun, or is not decided on.
    Open,
    Kept,
    Dropped,
}

#[derive(Debug)]
struct Selecting {
    spec: Spec,
    fate: Fate,
    /// When the present time of the rate limit began, on the monotonic clock.
    window_ms: u64,
    /// Lines kept in that time.
    used: u64,
    /// Lines that were left out by the rate limit and are not announced yet.
    left_out: u64,
}

impl Selecting {
    const fn new(spec: Spec) -> Self {
        Self { spec, fate: Fate::Open, window_ms: 0, used: 0, left_out: 0 }
    }

    fn compose(
        &mut self,
        input: &[u8],
        last: bool,
        now: BatchTime,
        stamp: &Stamp,
        out: &mut Composed,
    ) -> usize {
        let mut rest = input;
        while !rest.is_empty() {
            let (mut line, mut after) = split_line(rest);
            let ends = line.ends_with(b"\n");
            let body = line.len().saturating_sub(usize::from(ends));
            let waits = match self.fate {
                // A part of exactly the limit may turn out to be the whole line.
                Fate::Open | Fate::Kept if self.spec.whole_lines => body <= DECIDED_BY,
                Fate::Open => body < DECIDED_BY,
                Fate::Kept | Fate::Dropped => false,
            };
            if waits && !ends && !last {
                break;
            }
            if self.files_parts() && body > DECIDED_BY {
                (line, after) = rest.split_at_checked(DECIDED_BY).unwrap_or((rest, &[]));
            }
            let continued = self.fate == Fate::Kept;
            if self.fate == Fate::Open {
                let body = line.strip_suffix(b"\n").unwrap_or(line);
                if self.keeps(body.get(..DECIDED_BY).unwrap_or(body), now) {
                    self.announce(stamp, out);
                    self.begin_line(stamp, out);
                    self.fate = Fate::Kept;
                } else {
                    self.fate = Fate::Dropped;
                }
            }
            if self.fate == Fate::Kept {
                if continued && self.spec.whole_lines {
                    self.begin_line(stamp, out);
                    out.written.extend_from_slice(CONTINUED);
                }
                self.write(line, last && after.is_empty(), out);
            }
            if line.ends_with(b"\n") {
                self.fate = Fate::Open;
            }
            rest = after;
        }
        if last {
            self.announce(stamp, out);
        }
        input.len().saturating_sub(rest.len())
    }

    /// Writes a kept line, or a part of one. `is_the_end` tells that nothing follows in the stream.
    fn write(&self, line: &[u8], is_the_end: bool, out: &mut Composed) {
        if self.spec.whole_lines {
            out.written.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            if !line.ends_with(b"\n") && !is_the_end {
                out.written.extend_from_slice(CONTINUES);
            }
            out.written.push(b'\n');
        } else {
            out.written.extend_from_slice(line);
        }
        out.selected.extend_from_slice(line);
    }

    /// Returns whether a line that is too long is written in parts, each as a line of its own.
    fn files_parts(&self) -> bool {
        self.spec.whole_lines && self.fate != Fate::Dropped
    }

    fn keeps(&mut self, head: &[u8], now: BatchTime) -> bool {
        if self.spec.patterns.as_ref().is_some_and(|patterns| !patterns.keeps(head)) {
            return false;
        }
        let Some(rate) = self.spec.rate else { return true };
        // After a reboot, the clock may be behind.
        if now.tick_ms.checked_sub(self.window_ms).is_none_or(|passed| passed >= rate.per_ms) {
            self.window_ms = now.tick_ms;
            self.used = 0;
        }
        if self.used < rate.lines {
            self.used = self.used.saturating_add(1);
            true
        } else {
            self.left_out = self.left_out.saturating_add(1);
            false
        }
    }

    /// Announces how many lines are missing, at the place where they are missing.
    ///
    /// Lines were left out only after the last kept line, so the file is at the beginning of a
    /// line.
    fn announce(&mut self, stamp: &Stamp, out: &mut Composed) {
        let (Some(rate), count @ 1..) = (self.spec.rate, self.left_out) else { return };
        let s = if count == 1 { "" } else { "s" };
        let Rate { lines, per_ms } = rate;
        let note = format!("[gatevisor: {count} line{s} left out: over {lines} in {per_ms} ms]\n");
        self.begin_line(stamp, out);
        out.written.extend_from_slice(note.as_bytes());
        out.selected.extend_from_slice(note.as_bytes());
        self.left_out = 0;
    }

    fn begin_line(&self, stamp: &Stamp, out: &mut Composed) {
        out.written.extend_from_slice(stamp.as_bytes());
        if self.spec.stderr {
            out.written.extend_from_slice(STDERR_MARK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_slot::Timestamp;
    use proptest::prelude::*;

    fn at(tick_ms: u64) -> BatchTime {
        BatchTime { seconds: i64::try_from(tick_ms / 1000).unwrap(), nanos: 0, tick_ms }
    }

    fn stamp(now: BatchTime) -> Stamp {
        crate::directory::stamp::Stamper::new().stamp(Timestamp::Tai64n, now.seconds, now.nanos)
    }

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Patterns::new(&own(include), &own(exclude)).unwrap()
    }

    fn limited(lines: u64, per_ms: u64) -> Spec {
        Spec { rate: Some(Rate { lines, per_ms }), ..Spec::default() }
    }

    /// A stream whose bytes come in parts. Unconsumed bytes wait.
    struct Run {
        composer: Composer,
        waiting: Vec<u8>,
        written: Vec<u8>,
        shown: Vec<u8>,
    }

    impl Run {
        fn new(spec: Spec) -> Self {
            let composer = Composer::new(spec);
            Self { composer, waiting: Vec::new(), written: Vec::new(), shown: Vec::new() }
        }

        fn feed(&mut self, bytes: &[u8], tick_ms: u64, last: bool) {
            self.waiting.extend_from_slice(bytes);
            let (before, mut out) = (self.composer.state(), Composed::default());
            let now = at(tick_ms);
            let n = self.composer.compose(&self.waiting, last, now, &stamp(now), &mut out);
            let after = self.composer.state();
            // A restarted daemon with the state from before composes the same from the same bytes.
            let (written, shown) = (out.written.clone(), out.shown(&self.waiting[..n]).to_vec());
            self.composer.restore(before);
            let again = self.composer.compose(&self.waiting, last, now, &stamp(now), &mut out);
            assert_eq!((again, &out.written, self.composer.state()), (n, &written, after));
            assert_eq!(out.shown(&self.waiting[..n]), shown);
            self.written.extend_from_slice(&written);
            self.shown.extend_from_slice(&shown);
            self.waiting.drain(..n);
        }

        /// Returns the file without its stamps, for streams without `@`.
        fn file(&self) -> String {
            let text = String::from_utf8(self.written.clone()).unwrap();
            let unstamp = |line: &str| line.strip_prefix('@').map_or(line.to_owned(), |l| l[25..].to_owned());
            text.split_inclusive('\n').map(unstamp).collect()
        }
    }

    fn once(spec: Spec, text: &[u8]) -> Run {
        let mut run = Run::new(spec);
        run.feed(text, 5000, true);
        assert_eq!(run.waiting, b"");
        run
    }

    #[test]
    fn a_plain_stream_is_written_as_it_comes_and_shown_as_it_is() {
        let mut run = Run::new(Spec::default());
        run.feed(b"a\nb", 1000, false);
        assert_eq!(run.waiting, b"", "nothing waits");
        assert!(run.composer.is_mid_line());
        run.feed(b"c\n\0\xff", 2000, true);
        assert_eq!(run.shown, b"a\nbc\n\0\xff");
        assert_eq!(
            run.written,
            [
                stamp(at(1000)).as_bytes(),
                b"a\n",
                stamp(at(1000)).as_bytes(),
                b"bc\n",
                stamp(at(2000)).as_bytes(),
                b"\0\xff",
            ]
            .concat()
        );
    }

    #[test]
    fn a_line_is_kept_if_an_include_matches_and_no_exclude_does() {
        let text = b"GET /health\nGET /data\nerror: /health\n\nPOST\n";
        let table: [(&[&str], &[&str], &str); 5] = [
            (&[], &["/health"], "GET /data\n\nPOST\n"),
            (&["^GET", "error"], &[], "GET /health\nGET /data\nerror: /health\n"),
            (&["^GET", "error"], &["health$"], "GET /data\n"),
            (&["(?i)^post$"], &[], "POST\n"),
            (&["^$"], &[], "\n"),
        ];
        for (include, exclude, kept) in table {
            let run = once(Spec { patterns: Some(patterns(include, exclude)), ..Spec::default() }, text);
            assert_eq!(run.file(), kept, "{include:?} {exclude:?}");
            assert_eq!(run.shown, kept.as_bytes());
        }
    }

    #[test]
    fn a_line_is_decided_on_when_it_is_whole() {
        let mut run = Run::new(Spec { patterns: Some(patterns(&[], &["secret"])), ..Spec::default() });
        run.feed(b"sec", 1000, false);
        assert_eq!(run.waiting, b"sec");
        run.feed(b"ret\nplain\npar", 2000, false);
        assert_eq!((run.file().as_str(), run.waiting.as_slice()), ("plain\n", &b"par"[..]));
        run.feed(b"", 3000, true);
        assert_eq!(run.file(), "plain\npar", "the last line needs no newline");
    }

    #[test]
    fn a_line_that_is_too_long_to_wait_for_is_decided_on_by_its_beginning() {
        let spec = || Spec { patterns: Some(patterns(&[], &["late|early"])), ..Spec::default() };
        let long = |at: usize, word: &str| {
            let mut line = vec![b'x'; 20_000];
            line.splice(at..at + word.len(), word.bytes());
            [line.as_slice(), b"\nnext\n"].concat()
        };
        let run = once(spec(), &long(100, "early"));
        assert_eq!(run.file(), "next\n", "its rest is left out with it");
        let late = long(DECIDED_BY, "late");
        assert_eq!(once(spec(), &late).shown, late, "what is beyond the limit is not looked at");
        let mut run = Run::new(spec());
        run.feed(&vec![b'x'; DECIDED_BY - 1], 1000, false);
        assert_eq!(run.waiting.len(), DECIDED_BY - 1);
        run.feed(b"x", 1000, false);
        assert_eq!(run.waiting.len(), 0);
        assert!(run.composer.is_mid_line());
        run.feed(b"more", 1000, false);
        assert_eq!(run.waiting, b"", "the rest of a line that is kept does not wait");
    }

    #[test]
    fn lines_over_the_rate_are_left_out_and_announced_where_they_would_have_been() {
        let mut run = Run::new(limited(2, 1000));
        run.feed(b"1\n2\n3\n4\n", 5000, false);
        run.feed(b"5\n", 5999, false);
        assert_eq!(run.file(), "1\n2\n");
        run.feed(b"6\n7\n8\n", 6000, false);
        assert_eq!(run.file(), "1\n2\n[gatevisor: 3 lines left out: over 2 in 1000 ms]\n6\n7\n");
        run.feed(b"9\n", 60_000, false);
        run.feed(b"a\nb\nc", 60_000, true);
        let end = "[gatevisor: 1 line left out: over 2 in 1000 ms]\n9\na\n\
                   [gatevisor: 2 lines left out: over 2 in 1000 ms]\n";
        assert!(run.file().ends_with(end), "{}", run.file());
        assert_eq!(run.file().as_bytes(), run.shown);
    }

    #[test]
    fn lines_that_no_pattern_wants_do_not_count_for_the_rate() {
        let spec = Spec { patterns: Some(patterns(&[], &["^debug"])), ..limited(1, 1000) };
        assert_eq!(once(spec, b"debug 1\ndebug 2\nx\n").file(), "x\n");
    }

    #[test]
    fn a_clock_that_begins_again_begins_a_new_count() {
        let mut run = Run::new(limited(1, 1000));
        run.feed(b"a\n", 900_000, false);
        run.feed(b"b\n", 10, false);
        assert_eq!(run.file(), "a\nb\n");
    }

    #[test]
    fn standard_error_is_marked_after_the_stamp() {
        let spec = Spec { stderr: true, ..Spec::default() };
        let run = once(spec, b"one\ntwo");
        assert_eq!(run.file(), "[stderr] one\n[stderr] two");
        assert_eq!(run.shown, b"one\ntwo", "what is shown tells it in its own way");
        let mut run = Run::new(Spec { whole_lines: true, ..Spec::default() });
        run.feed(b"a\nb", 1000, false);
        assert_eq!((run.file().as_str(), run.waiting.as_slice()), ("a\n", &b"b"[..]));
    }

    #[test]
    fn where_two_streams_share_a_file_long_lines_are_written_in_parts() {
        let long = "x".repeat(DECIDED_BY);
        let run = once(Spec { whole_lines: true, ..Spec::default() }, format!("{long}\nshort\n").as_bytes());
        assert_eq!(run.file(), format!("{long}\nshort\n"), "as long as may be");
        let text = format!("{long}{long}end\nlast");
        let run = once(Spec { whole_lines: true, stderr: true, ..Spec::default() }, text.as_bytes());
        assert_eq!(
            run.file(),
            format!(
                "[stderr] {long} [gatevisor: line continues]\n\
                 [stderr] [gatevisor: line continued] {long} [gatevisor: line continues]\n\
                 [stderr] [gatevisor: line continued] end\n\
                 [stderr] last\n"
            )
        );
        assert_eq!(run.shown, text.as_bytes());
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => Just(b'\n'), 5 => Just(b'a'), 2 => Just(b'b'), 1 => any::<u8>()];
        let small = proptest::collection::vec(byte, 0..40);
        let large = (0..20_000usize, b'a'..=b'c').prop_map(|(n, b)| vec![b; n]);
        let part = prop_oneof![4 => small, 1 => large];
        proptest::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let rate = proptest::option::of((1..4u64, 1..2000u64));
        (any::<[bool; 3]>(), rate).prop_map(|([filtered, stderr, whole_lines], rate)| Spec {
            patterns: filtered.then(|| patterns(&["a", "^$"], &["ba"])),
            rate: rate.map(|(lines, per_ms)| Rate { lines, per_ms }),
            stderr,
            whole_lines,
        })
    }

    proptest! {
        #[test]
        fn the_chunks_make_no_difference(
            stream in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
            spec in spec(),
        ) {
            let whole = once(spec.clone(), &stream);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            ends.push(stream.len());
            ends.sort_unstable();
            let (mut run, mut from) = (Run::new(spec), 0);
            for end in ends {
                run.feed(&stream[from..end], 5000, false);
                prop_assert!(run.waiting.len() <= DECIDED_BY);
                from = end;
            }
            run.feed(b"", 5000, true);
            prop_assert_eq!(&run.written, &whole.written);
            prop_assert_eq!(&run.shown, &whole.shown);
        }

        #[test]
        fn every_line_is_kept_or_counted(
            times in proptest::collection::vec(0..3000u64, 1..60),
            lines in 1..5u64,
            per_ms in 1..2000u64,
        ) {
            let mut run = Run::new(limited(lines, per_ms));
            let (mut tick, mut windows) = (10_000, 1u64);
            let mut begun = 10_000 + times[0];
            for time in &times {
                tick += time;
                if tick - begun >= per_ms {
                    begun = tick;
                    windows += 1;
                }
                run.feed(b"line\n", tick, false);
            }
            run.feed(b"", tick, true);
            let (mut kept, mut counted) = (0u64, 0u64);
            for line in String::from_utf8(run.shown).unwrap().lines() {
                match line.strip_prefix("[gatevisor: ") {
                    Some(note) => counted += note.split(' ').next().unwrap().parse::<u64>().unwrap(),
                    None => kept += 1,
                }
            }
            prop_assert_eq!(kept + counted, times.len() as u64);
            prop_assert!(kept <= windows * lines);
        }
    }
}
