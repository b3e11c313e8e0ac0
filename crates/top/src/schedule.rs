//! *Lives here:* when the view samples, and when it draws the screen.
//!
//! *Does not live here:* the clock.

/// Milliseconds between two times that the screen is drawn if nothing happens, because uptimes
/// grow.
const DRAW_MS: u64 = 1000;
/// Milliseconds between two checks whether a supervisor runs.
const LOOK_MS: u64 = 2000;
/// Milliseconds between two samples of processor time and memory.
const SAMPLE_MS: u64 = 2000;
/// After a sample, the pause is at least this many times as long as the sample took. So samples
/// take at most this fraction of one processor, however many processes there are.
const REST: u64 = 50;
/// The least milliseconds between two times that events cause the screen to be drawn. Events in
/// between are drawn together.
const TOGETHER_MS: u64 = 100;

/// What must be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake {
    /// Check whether a supervisor runs.
    pub look: bool,
    /// Sample processor time and memory.
    pub sample: bool,
    /// Draw the screen.
    pub draw: bool,
}

/// The next time of each kind of work. Times are milliseconds of a clock that never goes back.
#[derive(Debug, Clone)]
pub struct Schedule {
    next_look: u64,
    next_sample: u64,
    next_draw: u64,
    last_draw: Option<u64>,
}

impl Schedule {
    /// Returns the schedule of a view that begins at `now`.
    pub const fn new(now: u64) -> Self {
        Self { next_look: now, next_sample: now, next_draw: now, last_draw: None }
    }

    /// Notes that something happened that was not a key. The screen is drawn soon.
    pub fn happened(&mut self, now: u64) {
        let soonest = self.last_draw.map_or(now, |last| last.saturating_add(TOGETHER_MS));
        self.next_draw = self.next_draw.min(soonest.max(now));
    }

    /// Notes that a key was typed. The screen is drawn at once.
    pub const fn typed(&mut self, now: u64) {
        self.next_draw = now;
    }

    /// Notes a check whether a supervisor runs.
    pub const fn looked(&mut self, now: u64) {
        self.next_look = now.saturating_add(LOOK_MS);
    }

    /// Notes a sample, which took `took` milliseconds.
    pub fn sampled(&mut self, now: u64, took: u64) {
        self.next_sample = now.saturating_add(took.saturating_mul(REST).max(SAMPLE_MS));
    }

    /// Notes that the screen was drawn.
    pub const fn drawn(&mut self, now: u64) {
        self.last_draw = Some(now);
        self.next_draw = now.saturating_add(DRAW_MS);
    }

    /// Returns what must be done at `now`.
    pub const fn due(&self, now: u64) -> Wake {
        Wake { look: now >= self.next_look, sample: now >= self.next_sample, draw: now >= self.next_draw }
    }

    /// Returns the milliseconds until something must be done.
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
