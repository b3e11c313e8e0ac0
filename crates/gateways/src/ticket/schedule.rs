//! *Lives here:* the moment of the daily restart, and whether it is due for a gateway.
//!
//! *Does not live here:* reading a clock: the moment and the time zone are arguments.
//!
//! If clocks are set forward and the time of the day does not exist, the restart is as much later
//! as the clocks were set. If the time exists twice, the first one counts. A machine that was
//! asleep or off at that time makes up for the restart within an hour. After that, the restart
//! waits for the next day.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How late a scheduled restart may be.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// Returns the time of the day that a text names, as `HH:MM` or `HH:MM:SS`.
pub(crate) fn time_of_day(text: &str) -> Option<Time> {
    let is_plain =
        [5, 8].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    text.parse().ok().filter(|_| is_plain)
}

/// Returns the last moment at which a restart was due, unless it was more than `LATE` ago.
pub(super) fn due(at: Time, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(zone.clone()).date();
    let days = [Some(today), today.yesterday().ok()];
    let moments = days.into_iter().flatten().filter_map(|day| {
        let moment = zone.to_ambiguous_zoned(day.to_datetime(at)).compatible().ok()?;
        Some(moment.timestamp())
    });
    moments.filter(|moment| (SignedDuration::ZERO..LATE).contains(&now.duration_since(*moment))).max()
}

/// Returns whether the restart of that moment is due for a gateway that began at `began`. A gateway
/// that began later needs no restart.
pub(super) fn is_due(moment: Timestamp, began: Timestamp) -> bool {
    began < moment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    /// Returns the moment that is due, in UTC.
    fn said(at: &str, zone: &TimeZone, now: &str) -> String {
        let due = due(time_of_day(at).unwrap(), zone, now.parse().unwrap());
        due.map_or_else(|| "none".to_owned(), |due| due.to_string())
    }

    #[test]
    fn a_restart_is_due_at_its_local_time_and_for_an_hour_after_it() {
        for (at, now, expected) in [
            ("04:30", "2026-07-01T02:29:59Z", "none"),
            ("04:30", "2026-07-01T02:30:00Z", "2026-07-01T02:30:00Z"),
            ("04:30", "2026-07-01T03:29:59Z", "2026-07-01T02:30:00Z"),
            // The machine was asleep.
            ("04:30", "2026-07-01T03:30:00Z", "none"),
            ("04:30", "2026-01-01T03:30:00Z", "2026-01-01T03:30:00Z"),
            ("23:45", "2026-07-01T22:10:00Z", "2026-07-01T21:45:00Z"),
            ("00:00:05", "2026-06-30T22:00:05Z", "2026-06-30T22:00:05Z"),
        ] {
            assert_eq!(said(at, &berlin(), now), expected, "{at} {now}");
        }
        assert_eq!(said("04:30", &TimeZone::UTC, "2026-07-01T04:30:00Z"), "2026-07-01T04:30:00Z");
    }

    #[test]
    fn in_a_gap_it_is_as_much_later_and_of_a_doubled_hour_it_is_the_first() {
        // At 2:00, clocks are set to 3:00. 2:30 would have been half an hour after that.
        for (now, expected) in [
            ("2026-03-29T01:29:59Z", "none"),
            ("2026-03-29T01:30:00Z", "2026-03-29T01:30:00Z"),
            ("2026-03-29T02:00:00Z", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(said("02:30", &berlin(), now), expected, "{now}");
        }
        // At 3:00, clocks are set to 2:00. 2:30 is at 0:30 and at 1:30 UTC.
        for (now, expected) in [
            ("2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:29:59Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:30:00Z", "none"),
            ("2026-10-25T01:31:00Z", "none"),
        ] {
            assert_eq!(said("02:30", &berlin(), now), expected, "{now}");
        }
    }

    #[test]
    fn there_is_one_restart_for_each_day_of_a_year() {
        let minutes = |zone: &TimeZone| {
            let first: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let all = (0..366 * 96).filter_map(|quarter| {
                let now = first.checked_add(SignedDuration::from_mins(quarter * 15)).unwrap();
                due(time_of_day("02:30").unwrap(), zone, now)
            });
            all.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((minutes(&berlin()), minutes(&TimeZone::UTC)), (366, 366));
    }

    #[test]
    fn a_gateway_that_was_started_since_is_not_due() {
        let moment: Timestamp = "2026-07-01T02:30:00Z".parse().unwrap();
        let second = SignedDuration::from_secs(1);
        assert!(is_due(moment, moment.checked_sub(second).unwrap()));
        assert!(!is_due(moment, moment));
    }

    #[test]
    fn a_time_of_day_has_two_digits_for_each_part() {
        assert!(time_of_day("04:30").is_some() && time_of_day("23:59:59").is_some());
        for wrong in ["4:30", "24:00", "04.30", "04:30:00.5", "0430", "T04:30", "", "04:60"] {
            assert!(time_of_day(wrong).is_none(), "{wrong}");
        }
    }
}
