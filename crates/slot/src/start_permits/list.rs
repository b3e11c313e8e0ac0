//! *Lives here:* which gateways of a scandir are starting, which ones wait for a permit, and who
//! is next.
//!
//! *Does not live here:* the file with the list, and the state of each process (`start_permits`).
//!
//! A line is `PID BEGAN UNWATCHED UNTIL SERVICE` for a start in progress; a waiting one has `-` for
//! both times. The first line has waited the longest. A start that waits for another service
//! (`after`), and so for no permit yet, is `PID BEGAN @ AWAITED SERVICE`.

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

/// What a start waits for before its command is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartDelay {
    /// For a permit: this many others wait before it (`start-parallel`).
    Queued(usize),
    /// For the start of this service (`after`).
    After(String),
}

impl StartDelay {
    /// Returns how many others wait before it, if it waits for a permit.
    pub const fn before(&self) -> Option<usize> {
        match self {
            Self::Queued(before) => Some(*before),
            Self::After(_) => None,
        }
    }

    /// Returns the service whose start it waits for, if it does.
    pub fn after(&self) -> Option<String> {
        match self {
            Self::Queued(_) => None,
            Self::After(service) => Some(service.clone()),
        }
    }
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
    /// The service whose start it waits for before it asks for a permit.
    pub awaits: Option<String>,
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
        let (span, awaits) = match (unwatched, until) {
            ("-", "-") => (None, None),
            ("@", awaited) => (None, Some(awaited.to_owned())),
            _ => {
                let (unwatched_until_ms, until_ms) = (unwatched.parse().ok()?, until.parse().ok()?);
                (Some(StartSpan { unwatched_until_ms, until_ms }), None)
            }
        };
        Some(Self { pid, began, span, awaits, service: service.to_owned(), is_stopped: false })
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
        for StartPermit { pid, began, span, awaits, service, .. } in &self.0 {
            let _ = match (span, awaits) {
                (Some(StartSpan { unwatched_until_ms, until_ms }), _) => {
                    writeln!(text, "{pid} {began} {unwatched_until_ms} {until_ms} {service}")
                }
                (None, Some(awaited)) => writeln!(text, "{pid} {began} @ {awaited} {service}"),
                (None, None) => writeln!(text, "{pid} {began} - - {service}"),
            };
        }
        text
    }

    /// Returns the starts that wait for a permit, the longest waiting first.
    pub fn waiting(&self) -> impl Iterator<Item = &StartPermit> {
        self.0.iter().filter(|permit| permit.span.is_none() && permit.awaits.is_none())
    }

    /// Returns all starts that wait, each with what it waits for: first those that wait for a
    /// permit, the longest waiting first.
    pub fn delayed(&self) -> impl Iterator<Item = (&StartPermit, StartDelay)> {
        let queued = self.waiting().enumerate().map(|(before, permit)| (permit, StartDelay::Queued(before)));
        let awaiting =
            self.0.iter().filter_map(|permit| Some((permit, StartDelay::After(permit.awaits.clone()?))));
        queued.chain(awaiting)
    }

    /// Returns what this process's start waits for; `None` if it does not wait.
    pub fn delay(&self, pid: i32) -> Option<StartDelay> {
        self.delayed().find(|(permit, _)| permit.pid == pid).map(|(_, delay)| delay)
    }

    /// Returns how many starts wait before this process's; `None` if it waits for no permit.
    pub fn before(&self, pid: i32) -> Option<usize> {
        self.waiting().position(|permit| permit.pid == pid)
    }

    /// Returns whether this process's waiting start may begin: at most `limit` may be in progress
    /// at the same time, and there must be room for each that has waited longer.
    pub fn may_begin(&self, pid: i32, limit: usize) -> bool {
        let Some(own) = self.0.iter().position(|permit| permit.pid == pid) else { return true };
        let counts = |(place, permit): &(usize, &StartPermit)| {
            !permit.is_stopped
                && permit.awaits.is_none()
                && *place != own
                && (permit.span.is_some() || *place < own)
        };
        self.0.iter().enumerate().filter(counts).count() < limit
    }

    /// Notes that the start of this process waits for another service, or no longer does.
    pub fn note_awaited(&mut self, pid: i32, began: u64, service: &str, awaited: Option<&str>) {
        self.0.retain(|permit| permit.pid != pid || permit.awaits.is_none());
        let awaits = awaited.map(str::to_owned);
        let service = service.to_owned();
        self.0.extend(awaits.map(|awaits| StartPermit {
            pid,
            began,
            span: None,
            awaits: Some(awaits),
            service,
            is_stopped: false,
        }));
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
        let service = format!("gateway-g{pid}");
        StartPermit { pid, began: 7, span, awaits: None, service, is_stopped: false }
    }

    /// Returns a list from signs: `+` is in progress, `.` waits, `x` waits and is stopped, `X` is
    /// in progress and stopped, `@` waits for another service. Processes are numbered from 1.
    fn permits(signs: &str) -> StartPermits {
        let one = |(sign, pid): (char, i32)| StartPermit {
            is_stopped: matches!(sign, 'x' | 'X'),
            awaits: (sign == '@').then(|| "gateway-default".to_owned()),
            ..permit(pid, matches!(sign, '+' | 'X').then_some(SPAN))
        };
        StartPermits(signs.chars().zip(1..).map(one).collect())
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_a_line_that_means_nothing_is_left_out() {
        let list = permits("+.+@..");
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
            // One that waits for another service asks for no permit yet.
            ("@.", 1, &[2]),
            ("@+.", 1, &[]),
        ] {
            let list = permits(signs);
            let waiting = list.waiting().map(|permit| permit.pid);
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

    #[test]
    fn a_start_that_waits_for_another_service_is_told_for_which_and_then_asks_for_a_permit() {
        let mut list = permits("+.");
        list.note_awaited(3, 7, "gateway-g3", Some("gateway-default"));
        let after = || Some(StartDelay::After("gateway-default".to_owned()));
        assert_eq!(list, permits("+.@"));
        assert_eq!(
            (list.delay(1), list.delay(2), list.delay(3)),
            (None, Some(StartDelay::Queued(0)), after())
        );
        assert_eq!(list.before(3), None);
        list.note_awaited(3, 7, "gateway-g3", Some("gateway-other"));
        assert_eq!(list.delay(3), Some(StartDelay::After("gateway-other".to_owned())));
        list.note_awaited(3, 7, "gateway-g3", None);
        assert_eq!(list, permits("+."));
    }
}
