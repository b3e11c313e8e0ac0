//! *Lives here:* when the view looks again: what is sampled, and when the screen is drawn.
//!
//! *Does not live here:* the clock.

/// How often the screen is drawn while nothing happens, because uptimes change.
const DRAW_MS: u64 = 1000;
/// How often it is looked whether a supervisor runs.
const LOOK_MS: u64 = 2000;
/// How often processor time and memory are sampled.
const SAMPLE_MS: u64 = 2000;
/// How many times as long as a sample took, none is taken. So samples take no more than this part
/// of one processor, however many processes there are.
const REST: u64 = 50;
/// The least time between two times that something was drawn because of events. Events in between
/// are shown together.
const TOGETHER_MS: u64 = 100;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake {
    /// It is to be looked whether a supervisor runs.
    pub look: bool,
    /// Processor time and memory are to be sampled.
    pub sample: bool,
    /// The screen is to be drawn.
    pub draw: bool,
}

/// When what is due. Times are milliseconds of a clock that never goes back.
#[derive(Debug, Clone)]
pub struct Schedule {
    next_look: u64,
    next_sample: u64,
    next_draw: u64,
    last_draw: Option<u64>,
}

impl Schedule {
    /// Returns the schedule of a view that begins now.
    pub const fn new(now: u64) -> Self {
        Self { next_look: now, next_sample: now, next_draw: now, last_draw: None }
    }

    /// Something happened that nobody has typed. It is shown soon.
    pub fn happened(&mut self, now: u64) {
        let soonest = self.last_draw.map_or(now, |last| last.saturating_add(TOGETHER_MS));
        self.next_draw = self.next_draw.min(soonest.max(now));
    }

    /// A key was typed. What it does is shown at once.
    pub const fn typed(&mut self, now: u64) {
        self.next_draw = now;
    }

    /// It was looked whether a supervisor runs.
    pub const fn looked(&mut self, now: u64) {
        self.next_look = now.saturating_add(LOOK_MS);
    }

    /// A sample was taken, and took this long.
    pub fn sampled(&mut self, now: u64, took: u64) {
        self.next_sample = now.saturating_add(took.saturating_mul(REST).max(SAMPLE_MS));
    }

    /// The screen was drawn.
    pub const fn drawn(&mut self, now: u64) {
        self.last_draw = Some(now);
        self.next_draw = now.saturating_add(DRAW_MS);
    }

    /// Returns what is due.
    pub const fn due(&self, now: u64) -> Wake {
        Wake { look: now >= self.next_look, sample: now >= self.next_sample, draw: now >= self.next_draw }
    }

    /// Returns for how many milliseconds nothing is due.
    pub fn wait(&self, now: u64) -> u64 {
        self.next_look.min(self.next_sample).min(self.next_draw).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts looks, samples, drawings and wake-ups within a minute; each sample takes `took`, and
    /// something happens every `happens` milliseconds.
    fn minute(took: u64, happens: Option<u64>) -> [u32; 4] {
        let (mut schedule, mut now, mut next) = (Schedule::new(0), 0_u64, happens);
        let [mut looks, mut samples, mut drawings, mut wakes] = [0; 4];
        while now < 60_000 {
            wakes += 1;
            let wake = schedule.due(now);
            if wake.look {
                schedule.looked(now);
                looks += 1;
            }
            if wake.sample {
                now += took;
                schedule.sampled(now, took);
                samples += 1;
            }
            if wake.draw {
                schedule.drawn(now);
                drawings += 1;
            }
            let wait = schedule.wait(now);
            match next {
                Some(at) if at <= now + wait => {
                    now = now.max(at);
                    schedule.happened(now);
                    next = happens.map(|every| at + every);
                }
                _ => now += wait,
            }
        }
        [looks, samples, drawings, wakes]
    }

    #[test]
    fn an_idle_minute_has_thirty_samples_and_sixty_drawings_and_wakes_for_nothing_else() {
        assert_eq!(minute(0, None), [30, 30, 60, 60]);
    }

    #[test]
    fn samples_that_take_long_are_taken_less_often() {
        let [looks, samples, ..] = minute(200, None);
        assert_eq!(looks, 30);
        assert!(samples * 200 <= 60_000 / 50 + 200, "{samples}");
    }

    #[test]
    fn however_much_happens_it_is_drawn_ten_times_a_second_at_the_most() {
        let [_, samples, drawings, _] = minute(0, Some(1));
        assert!((590..=601).contains(&drawings), "{drawings}");
        assert_eq!(samples, 30);
    }

    #[test]
    fn what_is_typed_is_drawn_at_once() {
        let mut schedule = Schedule::new(0);
        schedule.drawn(0);
        schedule.typed(5);
        assert!(schedule.due(5).draw);
    }
}
