//! The first line of a `log/run` whose interpreter is s6-log.
//!
//! *Lives here:* which of these scripts the log daemon can replace, and their content.
//! *Does not live here:* the whole language of s6-log (`logd`).
//!
//! Under s6, a script cannot have s6-log as its interpreter: the kernel passes the rest of the line
//! as one word, and the name of the script would be another directive. So no script that works
//! elsewhere is mistaken for one of these.

/// Defaults and bounds of s6-log.
const KEEP: u32 = 10;
const SIZE: u32 = 99_999;
const SMALLEST: u32 = 4096;
const LARGEST: u32 = 268_435_455;

/// A script that the log daemon can replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogScript<'a> {
    /// `1`: each line goes to standard output as well.
    pub forward: bool,
    /// The stamp before each line in the file.
    pub stamp: LogStamp,
    /// `n`: the number of archives to keep.
    pub keep: u32,
    /// `s`: the size of a file in bytes.
    pub size: u32,
    /// `S`: the bytes of all archives together, if that is limited.
    pub total: Option<u64>,
    /// The log directory, as written.
    pub directory: &'a str,
}

/// A stamp before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStamp {
    /// Nothing.
    None,
    /// `t`.
    Tai64n,
    /// `T`.
    IsoLocal,
}

impl<'a> LogScript<'a> {
    /// Returns the script in the first line of this file, if the log daemon can express it.
    ///
    /// It may hold `1`, any of `n` `s` `S`, one of `t` and `T`, and must end with one directory.
    /// Options, selections, processors, prefixes and further directories are not supported. `$` in
    /// the directory is refused, because the daemon would expand it.
    pub fn from_file(bytes: &'a [u8]) -> Option<Self> {
        // A line without its end may have been cut off.
        let (line, _) = bytes.split_at_checked(bytes.iter().position(|&b| b == b'\n')?)?;
        let line = line.strip_prefix(b"#!")?;
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_ascii_whitespace();
        let interpreter = words.next()?;
        if !interpreter.starts_with('/') || interpreter.rsplit('/').next() != Some("s6-log") {
            return None;
        }
        let mut script = LogScript {
            forward: false,
            stamp: LogStamp::None,
            keep: KEEP,
            size: SIZE,
            total: None,
            directory: "",
        };
        while let Some(word) = words.next() {
            match word.as_bytes() {
                // With a stamp before `1`, the shown lines would have a stamp, too.
                b"1" if script.stamp == LogStamp::None && !script.forward => script.forward = true,
                b"t" if script.stamp != LogStamp::IsoLocal => script.stamp = LogStamp::Tai64n,
                b"T" if script.stamp != LogStamp::Tai64n => script.stamp = LogStamp::IsoLocal,
                [b'n', digits @ ..] => script.keep = number(digits)?,
                [b's', digits @ ..] => script.size = number::<u32>(digits)?.clamp(SMALLEST, LARGEST),
                [b'S', digits @ ..] => script.total = Some(number(digits)?).filter(|total| *total > 0),
                [b'.' | b'/', ..] if !word.contains('$') && words.next().is_none() => {
                    script.directory = word;
                    return Some(script);
                }
                _ => return None,
            }
        }
        None
    }
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{LogScript, LogStamp};

    #[test]
    fn the_usual_script_is_the_daemons() {
        let file = b"#!/command/s6-log 1 n5 s1000000 S20000000 T /var/log/x\nrest\n";
        let expected = LogScript {
            forward: true,
            stamp: LogStamp::IsoLocal,
            keep: 5,
            size: 1_000_000,
            total: Some(20_000_000),
            directory: "/var/log/x",
        };
        assert_eq!(LogScript::from_file(file), Some(expected));
        let least = LogScript::from_file(b"#! /s6-log ./d\n").unwrap();
        assert_eq!((least.keep, least.size, least.total, least.forward), (10, 99_999, None, false));
    }

    #[test]
    fn anything_else_is_a_process() {
        for line in [
            "#!/s6-log",
            "#!/s6-log 1",
            "#!s6-log ./d",
            "#!/s6-logger ./d",
            "#!/bin/sh",
            "/s6-log ./d",
            "",
            "#!/s6-log -b ./d",
            "#!/s6-log t T ./d",
            "#!/s6-log t 1 ./d",
            "#!/s6-log ./d ./e",
            "#!/s6-log ./d 1",
            "#!/s6-log +a ./d",
            "#!/s6-log !gzip ./d",
            "#!/s6-log pa ./d",
            "#!/s6-log n ./d",
            "#!/s6-log ./$d",
            "#!/s6-log l5 ./d",
            "#!/s6-log 2 ./d",
        ] {
            assert_eq!(LogScript::from_file(format!("{line}\n").as_bytes()), None, "{line}");
        }
        assert_eq!(LogScript::from_file(b"#!/s6-log ./cut-sho"), None);
    }
}
