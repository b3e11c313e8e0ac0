//! The content of a datagram of `sd_notify`.
//!
//! *Lives here:* parsing the text. No I/O.
//! *Does not live here:* the sender, and the consequences.
//!
//! **Source:** `sd_notify(3)`.

use std::time::Duration;

/// The most bytes of a status that are kept.
const STATUS_BYTES: usize = 200;
/// The most assignments of one datagram that are looked at.
const ASSIGNMENTS: usize = 16;
/// The longest time that can be requested at once.
const LONGEST: Duration = Duration::from_hours(1);

/// A message of a gateway about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It has started, and works.
    Ready,
    /// What it is doing, in its own words, on one line.
    Status(String),
    /// It works.
    Watchdog,
    /// It does not work, and wants to be treated accordingly.
    WatchdogTrigger,
    /// It is about to end.
    Stopping,
    /// It reads its configuration anew.
    Reloading,
    /// It needs this much time from now on for its present work.
    Extend(Duration),
}

/// Returns the messages in a datagram, in order. Text that makes no sense is ignored, and so is
/// `MAINPID`, because the service's process is known.
pub fn parse(datagram: &[u8]) -> impl Iterator<Item = Message> + '_ {
    datagram.split(|&byte| byte == b'\n').take(ASSIGNMENTS).filter_map(assignment)
}

fn assignment(line: &[u8]) -> Option<Message> {
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (line.get(..equals)?, line.get(equals.checked_add(1)?..)?);
    match (name, value) {
        (b"READY", b"1") => Some(Message::Ready),
        (b"WATCHDOG", b"1") => Some(Message::Watchdog),
        (b"WATCHDOG", b"trigger") => Some(Message::WatchdogTrigger),
        (b"STOPPING", b"1") => Some(Message::Stopping),
        (b"RELOADING", b"1") => Some(Message::Reloading),
        (b"STATUS", text) => Some(Message::Status(status(text))),
        (b"EXTEND_TIMEOUT_USEC", number) => extend(number),
        _ => None,
    }
}

fn status(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..STATUS_BYTES).unwrap_or(text)).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn extend(number: &[u8]) -> Option<Message> {
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(number).ok().filter(|_| is_number)?;
    // A number that is too large counts as the longest time.
    let time = text.parse().map_or(LONGEST, Duration::from_micros);
    Some(Message::Extend(time.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(datagram: &[u8]) -> Vec<Message> {
        parse(datagram).collect()
    }

    #[test]
    fn each_assignment_says_something_and_what_makes_no_sense_says_nothing() {
        let datagram =
            b"READY=1\nSTATUS=3 chats\nMAINPID=1\nWATCHDOG=1\nRELOADING=1\nSTOPPING=1\nWATCHDOG=trigger\n\
            EXTEND_TIMEOUT_USEC=2000000\nREADY=0\nREADY\n=\nFDSTORE=1\nready=1\nWATCHDOG=";
        let expected = [
            Message::Ready,
            Message::Status("3 chats".to_owned()),
            Message::Watchdog,
            Message::Reloading,
            Message::Stopping,
            Message::WatchdogTrigger,
            Message::Extend(Duration::from_secs(2)),
        ];
        assert_eq!(all(datagram), expected);
        for nothing in [&b""[..], b"\0", b"\xff\xfe=1", b"READY=1 ", b" READY=1", b"EXTEND_TIMEOUT_USEC=-1"] {
            assert_eq!(all(nothing), [], "{}", nothing.escape_ascii());
        }
    }

    #[test]
    fn a_status_is_one_short_line_whatever_its_bytes_are() {
        let long = [b"STATUS=".as_slice(), &[b'x'; 4000]].concat();
        assert_eq!(all(&long), [Message::Status("x".repeat(STATUS_BYTES))]);
        let text = "STATUS=\u{1b}[31m\u{7}\tü".as_bytes();
        assert_eq!(all(text), [Message::Status(" [31m  ü".to_owned())]);
        assert_eq!(all(b"STATUS=\xff"), [Message::Status("\u{fffd}".to_owned())]);
    }

    #[test]
    fn nobody_asks_for_more_than_an_hour_at_once_and_for_more_than_a_few_things() {
        for number in ["3600000001", "18446744073709551615", "99999999999999999999999999"] {
            let datagram = format!("EXTEND_TIMEOUT_USEC={number}");
            assert_eq!(all(datagram.as_bytes()), [Message::Extend(LONGEST)], "{number}");
        }
        assert_eq!(all("READY=1\n".repeat(1000).as_bytes()).len(), ASSIGNMENTS);
    }
}
