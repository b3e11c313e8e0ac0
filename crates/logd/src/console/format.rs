//! The form of a line where it is shown.
//!
//! *Lives here:* the label and JSON, both escaped. A reader of the container's log usually sits at
//! a terminal, and `docker logs` passes every byte on. No I/O.
//! *Does not live here:* the queue for lines (`console`), and cutting a stream into lines
//! (`pieces`).

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;

use gatevisor_slot::{Forward, Timestamp};
use gatevisor_term::escape::{self, Tab};

use super::pieces::Piece;
use crate::directory::stamp::Stamper;
use crate::time::BatchTime;

/// Ends a part of a line that has more parts.
pub(crate) const CONTINUES: &[u8] = b" [gatevisor: line continues]";
/// Begins a part of a line that has begun before.
pub(crate) const CONTINUED: &[u8] = b"[gatevisor: line continued] ";

/// The form of the lines of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    pub label: Arc<str>,
    pub forward: Forward,
    /// Whether they come from the standard error of a service whose streams are distinguished.
    pub stderr: bool,
}

/// Why lines were not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// Standard output did not accept them.
    Stalled,
    /// The daemon that had taken them was killed.
    Killed,
}

impl Format {
    /// Appends a piece of a line, and the end of the line.
    pub fn append(&self, piece: Piece<'_>, now: BatchTime, out: &mut Vec<u8>) {
        if self.forward == Forward::Json {
            return self.append_json(piece, now, out);
        }
        let is_raw = self.forward == Forward::Raw;
        if !is_raw {
            out.extend_from_slice(escape::line(&self.label).as_bytes());
            out.extend_from_slice(if self.stderr { b" ! " } else { b" | " });
        }
        if piece.continued {
            out.extend_from_slice(CONTINUED);
        }
        if is_raw {
            out.extend_from_slice(piece.kept);
            out.extend_from_slice(piece.fresh);
        } else {
            escape::append(&joined(piece), Tab::Kept, out);
        }
        if piece.continues {
            out.extend_from_slice(CONTINUES);
        }
        out.push(b'\n');
    }

    /// Appends a note that this many lines are not shown here.
    pub fn append_gap(&self, lines: u64, why: GapReason, now: BatchTime, out: &mut Vec<u8>) {
        let s = if lines == 1 { "" } else { "s" };
        let (bound, reason) = match why {
            GapReason::Stalled => ("", "output was stalled"),
            // Lines that were written but not counted yet cannot be distinguished from lines that
            // were not written.
            GapReason::Killed => ("up to ", "the log daemon was killed"),
        };
        if self.forward == Forward::Json {
            self.begin_json("gatevisor", now, out);
            append_string(&format!("{bound}{lines} line{s} not shown: {reason}"), out);
            let _ = write!(out, ",\"missing\":{lines}}}");
        } else {
            let label = escape::line(&self.label);
            let _ = write!(out, "[gatevisor: {bound}{lines} line{s} of {label} not shown: {reason}]");
        }
        out.push(b'\n');
    }

    fn append_json(&self, piece: Piece<'_>, now: BatchTime, out: &mut Vec<u8>) {
        self.begin_json(if self.stderr { "stderr" } else { "stdout" }, now, out);
        let bytes = joined(piece);
        let text = String::from_utf8_lossy(&bytes);
        append_string(&text, out);
        if matches!(text, Cow::Owned(_)) {
            out.extend_from_slice(b",\"bytes\":\"");
            append_base64(&bytes, out);
            out.push(b'"');
        }
        if piece.continued {
            out.extend_from_slice(b",\"continued\":true");
        }
        if piece.continues {
            out.extend_from_slice(b",\"continues\":true");
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends a JSON object up to the value of `text`.
    fn begin_json(&self, stream: &str, now: BatchTime, out: &mut Vec<u8>) {
        let stamp = Stamper::new().stamp(Timestamp::IsoUtc, now.seconds, now.nanos);
        out.extend_from_slice(b"{\"time\":\"");
        out.extend(stamp.as_bytes().trim_ascii_end().iter().map(|b| if *b == b' ' { b'T' } else { *b }));
        out.extend_from_slice(b"Z\",\"profile\":");
        append_string(&self.label, out);
        let _ = write!(out, ",\"stream\":\"{stream}\",\"text\":");
    }
}

/// Returns an upper bound for the bytes of a piece of `len` bytes when it is shown.
pub(crate) fn size_bound(format: &Format, len: usize) -> usize {
    let factor = match format.forward {
        // A control character of one byte takes six bytes, and bytes that are not text appear
        // twice.
        Forward::Json => 8,
        // As in `\u{1b}`.
        _ => 6,
    };
    len.saturating_mul(factor).saturating_add(format.label.len().saturating_mul(factor)).saturating_add(160)
}

fn joined(piece: Piece<'_>) -> Cow<'_, [u8]> {
    if piece.kept.is_empty() {
        Cow::Borrowed(piece.fresh)
    } else {
        // A character may have arrived in two parts.
        Cow::Owned([piece.kept, piece.fresh].concat())
    }
}

/// Appends a JSON string with its quotes. Hidden characters and terminal commands are escaped,
/// beyond ASCII, too.
fn append_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let is_special = |c: char| c == '"' || c == '\\' || escape::is_hidden(c);
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        let (plain, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = after.chars();
        match chars.next() {
            Some(c @ ('"' | '\\')) => out.extend_from_slice(&[b'\\', if c == '"' { b'"' } else { b'\\' }]),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Appends bytes in base64 with padding.
///
/// **Source:** RFC 4648, section 4.
fn append_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for (index, shift) in [18u32, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS.get(usize::try_from(bits >> shift & 63).unwrap_or(0));
            out.push(if index <= group.len() { digit.copied().unwrap_or(b'=') } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: BatchTime = BatchTime { seconds: 1_795_217_645, nanos: 123_456_789, tick_ms: 0 };

    fn format(forward: Forward, stderr: bool) -> Format {
        Format { label: "co\"der".into(), forward, stderr }
    }

    fn piece(bytes: &[u8]) -> Piece<'_> {
        Piece { kept: b"", fresh: bytes, continued: false, continues: false }
    }

    fn text(format: &Format, piece: Piece<'_>) -> String {
        let mut out = Vec::new();
        format.append(piece, NOW, &mut out);
        assert!(out.len() <= size_bound(format, piece.kept.len() + piece.fresh.len()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_json_holds_time_profile_stream_and_text() {
        let json = format(Forward::Json, false);
        let start = r#"{"time":"2026-11-20T23:34:05.123456789Z","profile":"co\"der","stream":"#;
        let table: [(&[u8], &str); 6] = [
            (b"hello", r#""stdout","text":"hello"}"#),
            (b"", r#""stdout","text":""}"#),
            (
                "a\"\\\t\x1b\r\u{85}ü".as_bytes(),
                "\"stdout\",\"text\":\"a\\\"\\\\\\t\\u001b\\u000d\\u0085ü\"}",
            ),
            (b"\0", "\"stdout\",\"text\":\"\\u0000\"}"),
            (b"a\xff", "\"stdout\",\"text\":\"a\u{fffd}\",\"bytes\":\"Yf8=\"}"),
            (b"\xff\xfe\xfd", "\"stdout\",\"text\":\"\u{fffd}\u{fffd}\u{fffd}\",\"bytes\":\"//79\"}"),
        ];
        for (line, rest) in table {
            assert_eq!(text(&json, piece(line)), format!("{start}{rest}\n"));
        }
        let errors = format(Forward::Json, true);
        assert_eq!(text(&errors, piece(b"x")), format!("{start}\"stderr\",\"text\":\"x\"}}\n"));
        let part = Piece { kept: b"\xc3", fresh: b"\xbc", continued: true, continues: true };
        assert_eq!(
            text(&json, part),
            format!("{start}\"stdout\",\"text\":\"ü\",\"continued\":true,\"continues\":true}}\n")
        );
        let mut gap = Vec::new();
        json.append_gap(3, GapReason::Stalled, NOW, &mut gap);
        let rest = r#""gatevisor","text":"3 lines not shown: output was stalled","missing":3}"#;
        assert_eq!(String::from_utf8(gap).unwrap(), format!("{start}{rest}\n"));
    }

    #[test]
    fn no_shown_line_controls_a_terminal() {
        let line = "tab\there \x1b[2Jcleared\r\x07 \u{9b}31m ü \u{202e}\x7f".as_bytes();
        let safe = "co\"der | tab\there \\u{1b}[2Jcleared\\r\\u{7} \\u{9b}31m ü \\u{202e}\\u{7f}\n";
        let label = format(Forward::Label, false);
        assert_eq!(text(&label, piece(line)), safe);
        assert_eq!(text(&label, piece(b"\x9b31m\xff")), "co\"der | \\x9b31m\\xff\n");
        let raw = format(Forward::Raw, false);
        let bytes = String::from_utf8(line.to_vec()).unwrap();
        assert_eq!(text(&raw, piece(line)), format!("{bytes}\n"), "raw is raw");
        let odd = Format { label: "a\nb".into(), ..label };
        assert_eq!(text(&odd, piece(b"x")), "a\\nb | x\n");
    }

    #[test]
    fn standard_error_is_told_from_standard_output() {
        assert_eq!(text(&format(Forward::Label, true), piece(b"x")), "co\"der ! x\n");
        assert_eq!(text(&format(Forward::Raw, true), piece(b"x")), "x\n");
    }

    #[test]
    fn base64_is_what_everybody_reads() {
        let table: [(&[u8], &str); 5] =
            [(b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy")];
        for (bytes, expected) in table {
            let mut out = Vec::new();
            append_base64(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange_for_json(kept in any::<Vec<u8>>(), fresh in any::<Vec<u8>>()) {
            let line = Piece { kept: &kept, fresh: &fresh, continued: false, continues: false };
            let shown = text(&format(Forward::Json, false), line);
            let bytes = [kept.as_slice(), &fresh].concat();
            prop_assert_eq!(shown.matches('\n').count(), 1);
            prop_assert!(!shown.trim_end_matches('\n').contains(escape::is_hidden));
            let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(value["text"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
            prop_assert_eq!(value.get("bytes").is_some(), std::str::from_utf8(&bytes).is_err());
        }

        #[test]
        fn no_line_is_too_strange_for_a_reader(line in any::<Vec<u8>>()) {
            let line: Vec<u8> = line.into_iter().filter(|b| *b != b'\n').collect();
            let shown = text(&format(Forward::Label, false), piece(&line));
            prop_assert!(shown.trim_end_matches('\n').chars().all(|c| c == '\t' || !c.is_control()));
        }
    }
}
