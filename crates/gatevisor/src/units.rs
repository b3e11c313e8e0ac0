//! The form of times and sizes for people.
//!
//! *Lives here:* the units.
//! *Does not live here:* the places where they are shown.

/// Returns a time span in its two largest units.
pub fn span(seconds: u64) -> String {
    let (minutes, s) = (seconds / 60, seconds % 60);
    let (hours, m) = (minutes / 60, minutes % 60);
    let (days, h) = (hours / 24, hours % 24);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m{s:02}s"),
        (0, _, _) => format!("{h}h{m:02}m"),
        _ => format!("{days}d{h:02}h"),
    }
}

/// Returns a time for people.
pub fn milliseconds(ms: u64) -> String {
    if ms < 10_000 {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    } else {
        format!("{} s", ms.div_ceil(1000))
    }
}

/// Returns a number of turns in words.
pub fn turns_words(turns: u32) -> String {
    if turns == 1 { "1 turn".to_owned() } else { format!("{turns} turns") }
}

/// Returns a number of bytes in a unit for people.
pub fn size(bytes: u64) -> String {
    const UNIT: u64 = 1024;
    match bytes {
        0..1_048_576 => format!("{} kB", bytes / UNIT),
        1_048_576..1_073_741_824 => format!("{} MB", bytes / UNIT / UNIT),
        _ => {
            let tenths = bytes / (UNIT * UNIT * UNIT / 10);
            format!("{}.{} GB", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{size, span};

    #[test]
    fn spans_show_their_two_largest_units() {
        let shown = [0, 59, 60, 3599, 3600, 86_399, 86_400, 864_000].map(span);
        assert_eq!(shown, ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "10d00h"]);
    }

    #[test]
    fn sizes_show_in_the_unit_that_people_use() {
        let shown = [0, 94_371, 99_614_720, 1_610_612_736].map(size);
        assert_eq!(shown, ["0 kB", "92 kB", "95 MB", "1.5 GB"]);
    }
}
