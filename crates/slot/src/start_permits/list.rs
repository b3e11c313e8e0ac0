//! *Lives here:* which gateways of a scandir are starting, which ones wait for a permit, and who
//! is next.
//!
//! *Does not live here:* the file with the list, and the state of each process (`start_permits`).
//!
//! A line is `PID BEGAN UNWATCHED UNTIL SERVICE` for a start in progress; a waiting one has `-` for
//! both times. The first line has waited the longest.

use std::fmt::Write as _;

/// How long a start counts, in milliseconds of the monotonic clock, if nothing shows its end
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSpan {
    /// The end if nobody looks whether the gateway works.
    pub unwatched_until_ms: u64,
    /// The end in any case.
    pub until_ms: u64,
}

/// A start that waits or is in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPermit {
    /// The process that becomes the gateway, or has become it.
    pub pid: i32,
    /// When it began, in the kernel's ticks.
    pub began: u64,
    /// How long it counts; `None` while it waits.
    pub span: Option<StartSpan>,
    /// The service that starts, as the scandir names it.
    pub service: String,
    /// Whether a signal has stopped it, so that it neither uses its permit nor works. This is not
    /// part of the file.
    pub is_stopped: bool,
}

impl StartPermit {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let (pid, began) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (unwatched, until, service) = (words.next()?, words.next()?, words.next()?);
        let span = match (unwatched, until) {
            ("-", "-") => None,
            _ => {
                Some(StartSpan { unwatched_until_ms: unwatched.parse().ok()?, until_ms: until.parse().ok()? })
            }
        };
        Some(Self { pid, began, span, service: service.to_owned(), is_stopped: false })
    }
}

/// The starts of a scandir that wait or are in progress, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartPermits(pub Vec<StartPermit>);

impl StartPermits {
    /// Returns the content of a file. Lines that make no sense are left out.
    pub fn decode(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).lines().filter_map(StartPermit::parse).collect())
    }

    /// Returns the list as the content of the file.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for StartPermit { pid, began, span, service, .. } in &self.0 {
            let _ = match span {
                Some(StartSpan { unwatched_until_ms, until_ms }) => {
                    writeln!(text, "{pid} {began} {unwatched_until_ms} {until_ms} {service}")
                }
                None => writeln!(text, "{pid} {began} - - {service}"),
            };
        }
        text
    }

    /// Returns the waiting starts, the longest waiting first.
    pub fn waiting(&self) -> impl Iterator<Item = &StartPermit> {
        self.0.iter().filter(|permit| permit.span.is_none())
    }

    /// Returns how many starts wait before this process's; `None` if it does not wait.
    pub fn before(&self, pid: i32) -> Option<usize> {
        self.waiting().position(|permit| permit.pid == pid)
    }

    /// Returns whether this process's waiting start may begin: at most `limit` may be in progress
    /// at the same time, and there must be room for each that has waited longer.
    pub fn may_begin(&self, pid: i32, limit: usize) -> bool {
        let Some(own) = self.0.iter().position(|permit| permit.pid == pid) else { return true };
        let counts = |(place, permit): &(usize, &StartPermit)| {
            !permit.is_stopped && *place != own && (permit.span.is_some() || *place < own)
        };
        self.0.iter().enumerate().filter(counts).count() < limit
    }

    /// Notes that the start of this process begins.
    pub fn begin(&mut self, pid: i32, span: StartSpan) {
        for permit in self.0.iter_mut().filter(|permit| permit.pid == pid) {
            permit.span = Some(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: StartSpan = StartSpan { unwatched_until_ms: 5, until_ms: 9 };

    fn permit(pid: i32, span: Option<StartSpan>) -> StartPermit {
        StartPermit { pid, began: 7, span, service: format!("gateway-g{pid}"), is_stopped: false }
    }

    /// Returns a list from signs: `+` is in progress, `.` waits, `x` waits and is stopped, `X` is
    /// in progress and stopped. Processes are numbered from 1.
    fn permits(signs: &str) -> StartPermits {
        let one = |(sign, pid): (char, i32)| StartPermit {
            is_stopped: matches!(sign, 'x' | 'X'),
            ..permit(pid, matches!(sign, '+' | 'X').then_some(SPAN))
        };
        StartPermits(signs.chars().zip(1..).map(one).collect())
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_a_line_that_means_nothing_is_left_out() {
        let list = permits("+.+..");
        assert_eq!(StartPermits::decode(list.encode().as_bytes()), list);
        let text = "1 7 5 9 gateway-g1\n\n2 7 - 9 x\n3 7 - -\nnonsense\n\u{fffd}\n2 7 - - gateway-g2\n";
        assert_eq!(StartPermits::decode(text.as_bytes()), permits("+."));
    }

    #[test]
    fn so_many_starts_are_under_way_at_a_time_and_the_next_is_the_one_that_has_waited_longest() {
        // The columns are the list, the limit, and the starts that may begin.
        for (signs, limit, expected) in [
            (".", 1, &[1][..]),
            ("..", 1, &[1]),
            ("...", 2, &[1, 2]),
            ("+..", 1, &[]),
            ("+..", 2, &[2]),
            ("++..", 2, &[]),
            // A start that came later but is in progress already counts as well.
            (".+", 1, &[]),
            (".+.", 2, &[1]),
            // A stopped process does not work, and does not prevent others from working.
            ("X.", 1, &[2]),
            ("xx..", 1, &[1, 2, 3]),
            ("X+x..", 2, &[3, 4]),
        ] {
            let list = permits(signs);
            let waiting = list.0.iter().filter(|permit| permit.span.is_none()).map(|permit| permit.pid);
            let may: Vec<i32> = waiting.filter(|pid| list.may_begin(*pid, limit)).collect();
            assert_eq!(may, expected, "{signs} with {limit}");
        }
    }

    #[test]
    fn a_start_that_waits_is_told_how_many_wait_before_it() {
        let mut list = permits("+...");
        assert_eq!([1, 2, 3, 4, 5].map(|pid| list.before(pid)), [None, Some(0), Some(1), Some(2), None]);
        list.begin(2, SPAN);
        assert_eq!([2, 3, 4].map(|pid| list.before(pid)), [None, Some(0), Some(1)]);
        assert!(permits("+").may_begin(9, 0), "what is not in the list waits for nobody");
    }
}
