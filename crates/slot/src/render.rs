//! Renders `run`, `finish` and `log/run`.
//!
//! *Lives here:* the text of the files, with a `#!` line that the kernel accepts.
//! *Does not live here:* publishing them in a scandir.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::file::{ServiceFile, check_service};
use crate::log::{LogFile, check_log};
use crate::parse_error::ParseError;

/// The longest `#!` line in bytes; the kernel reads 255.
///
/// **Source:** execve(2), "Interpreter scripts".
const MAX_SHEBANG: usize = 250;

/// Why a file cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The interpreter's path is relative, so it would be looked up in the service directory.
    #[error("the path of gatevisor, `{}`, is not absolute", path.display())]
    Relative {
        /// What was given.
        path: PathBuf,
    },
    /// The interpreter's path contains a character that ends the path for the kernel.
    #[error(
        "the path of gatevisor, `{}`, holds a blank or a newline, which no `#!` line can; \
         install gatevisor under a path without blanks",
        path.display()
    )]
    Blank {
        /// What was given.
        path: PathBuf,
    },
    /// The kernel would cut off the `#!` line.
    #[error(
        "the path of gatevisor, `{}`, is too long for a `#!` line of {MAX_SHEBANG} bytes; \
         install gatevisor under a shorter path without blanks",
        path.display()
    )]
    TooLong {
        /// What was given.
        path: PathBuf,
    },
    /// The reader would not accept the settings.
    #[error("the settings are not valid")]
    Settings(#[from] ParseError),
    /// TOML cannot express the settings.
    #[error("the settings cannot be written as TOML")]
    Toml(#[from] toml::ser::Error),
}

/// Returns the text of a `run` file for `interpreter`, an absolute path of gatevisor.
///
/// `comment` may have several lines; it follows the `#!` line.
///
/// # Errors
/// The path does not fit a `#!` line, or [`crate::parse_service`] would not accept the settings.
pub fn render_service(interpreter: &Path, file: &ServiceFile, comment: &str) -> Result<Vec<u8>, RenderError> {
    check_service(file)?;
    render(interpreter, "service", file, comment)
}

/// Returns the text of a `log/run` file, as [`render_service`] does for `run`.
pub fn render_log(interpreter: &Path, file: &LogFile, comment: &str) -> Result<Vec<u8>, RenderError> {
    check_log(file)?;
    render(interpreter, "log", file, comment)
}

/// Returns the text of a `finish` file, which has a `#!` line and no settings.
pub fn render_finish(interpreter: &Path, comment: &str) -> Result<Vec<u8>, RenderError> {
    let mut out = shebang(interpreter, "finish")?;
    push_comment(&mut out, comment);
    Ok(out)
}

fn render(
    interpreter: &Path,
    applet: &str,
    file: &impl Serialize,
    comment: &str,
) -> Result<Vec<u8>, RenderError> {
    let mut out = shebang(interpreter, applet)?;
    push_comment(&mut out, comment);
    out.extend_from_slice(toml::to_string(file)?.as_bytes());
    Ok(out)
}

fn shebang(interpreter: &Path, applet: &str) -> Result<Vec<u8>, RenderError> {
    let path = interpreter.as_os_str().as_bytes();
    if !interpreter.is_absolute() {
        return Err(RenderError::Relative { path: interpreter.to_owned() });
    }
    if path.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(RenderError::Blank { path: interpreter.to_owned() });
    }
    let line = [b"#!", path, b" ", applet.as_bytes()].concat();
    if line.len() > MAX_SHEBANG {
        return Err(RenderError::TooLong { path: interpreter.to_owned() });
    }
    Ok([line.as_slice(), b"\n"].concat())
}

fn push_comment(out: &mut Vec<u8>, comment: &str) {
    for line in comment.lines() {
        let mut text = String::from("#");
        if !line.is_empty() {
            text.push(' ');
        }
        for c in line.chars() {
            // In a comment, TOML allows no control characters but the tab.
            if c.is_control() && c != '\t' {
                let _ = write!(text, "{}", c.escape_default());
            } else {
                text.push(c);
            }
        }
        text.push('\n');
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::settings::{Landlock, LimitName, ResourceLimit};
    use crate::file::{Ready, Stderr, parse_log, parse_service};
    use crate::log::{Compress, Forward, Rate, Timestamp};
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    use proptest::prelude::*;

    const GATEVISOR: &str = "/usr/local/bin/gatevisor";

    #[test]
    fn a_run_file_reads_like_this() {
        let file = ServiceFile {
            directory: Some("${HERMES_HOME}".into()),
            user: Some("hermes".into()),
            environment: [("HOME".to_owned(), "/opt/data".to_owned())].into(),
            ready: Some(Ready::new("http://127.0.0.1:8642/health")),
            ..ServiceFile::new(vec!["hermes".into(), "gateway".into(), "run".into()])
        };
        let text =
            render_service(Path::new(GATEVISOR), &file, "gateway of profile coder\nwritten by gatevisor")
                .unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"#!/usr/local/bin/gatevisor service
# gateway of profile coder
# written by gatevisor
command = ["hermes", "gateway", "run"]
directory = "${HERMES_HOME}"
user = "hermes"

[environment]
HOME = "/opt/data"

[ready]
http = "http://127.0.0.1:8642/health"
"#
        );
    }

    #[test]
    fn a_log_run_file_reads_like_this() {
        let text =
            render_log(Path::new(GATEVISOR), &LogFile::new("/opt/data/logs/gateways/coder"), "").unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "#!/usr/local/bin/gatevisor log\ndirectory = \"/opt/data/logs/gateways/coder\"\n"
        );
        let text = render_finish(Path::new(GATEVISOR), "78 is permanent").unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "#!/usr/local/bin/gatevisor finish\n# 78 is permanent\n"
        );
    }

    #[test]
    fn a_path_that_no_shebang_can_hold_is_refused() {
        let file = ServiceFile::new(vec!["true".into()]);
        let message = |path: &str| render_service(Path::new(path), &file, "").unwrap_err().to_string();
        assert_eq!(message("gatevisor"), "the path of gatevisor, `gatevisor`, is not absolute");
        for path in ["/opt/my tools/gatevisor", "/opt/a\tb", "/opt/a\nb"] {
            let message = message(path);
            assert!(message.ends_with("install gatevisor under a path without blanks"), "{message}");
        }
        let fits = format!("/{}", "x".repeat(MAX_SHEBANG - "#!/ service".len()));
        assert!(render_service(Path::new(&fits), &file, "").is_ok());
        assert!(message(&format!("{fits}x")).contains("is too long for a `#!` line of 250 bytes"));
    }

    #[test]
    fn settings_that_would_not_be_read_back_are_not_written() {
        let file = ServiceFile::new(vec![]);
        assert!(matches!(render_service(Path::new(GATEVISOR), &file, ""), Err(RenderError::Settings(_))));
        let file = LogFile { size: 1, ..LogFile::new("x") };
        assert!(matches!(render_log(Path::new(GATEVISOR), &file, ""), Err(RenderError::Settings(_))));
    }

    prop_compose! {
        fn ready()(http in ".{0,20}", when in of(".{0,9}"), interval_ms in 1..u64::from(u32::MAX), timeout_ms in 0..u64::from(u32::MAX)) -> Ready {
            Ready { http, when, interval_ms, timeout_ms }
        }
    }

    fn limit() -> impl Strategy<Value = ResourceLimit> {
        (of(0..i64::MAX.unsigned_abs()), of(0..i64::MAX.unsigned_abs()))
            .prop_filter("ordered", |(soft, hard)| {
                hard.is_none_or(|hard| soft.is_some_and(|soft| soft <= hard))
            })
            .prop_map(|(soft, hard)| ResourceLimit { soft, hard })
    }

    prop_compose! {
        /// Restrictions of any command.
        fn confined()(
            environment_allow in of(vec("[^=\0*]{1,9}[*]?", 0..4)),
            (no_new_privileges, strict, home_lock) in any::<(bool, bool, bool)>(),
            oom_score in of((0..=1000, any::<bool>())),
            capabilities in of(vec(proptest::sample::select(&["CHOWN", "CAP_SYS_ADMIN", "CHECKPOINT_RESTORE"][..]), 0..3)),
            limits in btree_map(proptest::sample::select(&LimitName::ALL[..]), limit(), 0..5),
            landlock in of((vec(any::<String>(), 0..3), of(vec(any::<String>(), 0..3)), of(vec(any::<String>(), 0..3)))),
        ) -> ServiceFile {
            ServiceFile {
                environment_allow,
                no_new_privileges,
                home_lock,
                strict,
                oom_score_adj: oom_score.filter(|(_, is_raise)| !is_raise).map(|(score, _)| score),
                oom_score_raise: oom_score.filter(|(_, is_raise)| *is_raise).map(|(score, _)| score.max(1)),
                capabilities: capabilities.map(|names| names.into_iter().map(String::from).collect()),
                limits,
                landlock: landlock.map(|(write, read, execute)| Landlock { write, read, execute }),
                ..ServiceFile::new(Vec::new())
            }
        }
    }

    prop_compose! {
        fn service()(
            confined in confined(),
            command in vec("\\PC{1,20}|[\n\"'\\\\]{1,4}", 1..4),
            directory in of(any::<String>()),
            user in of(any::<String>()),
            umask in of("[0-7]{3}"),
            nice in of(-20..=19),
            stderr in prop_oneof![Just(Stderr::Log), Just(Stderr::Stream), Just(Stderr::Inherit)],
            environment_files in vec(any::<String>(), 0..3),
            environment_export in any::<bool>(),
            environment in btree_map("[^=\0]{1,9}", any::<String>(), 0..4),
            ready in of(ready()),
        ) -> ServiceFile {
            ServiceFile {
                command, directory, user, umask, nice, stderr, environment_files, environment_export,
                environment, ready, ..confined
            }
        }
    }

    prop_compose! {
        fn log()(
            directory in ".{1,30}",
            label in of("\\PC{0,9}"),
            size in 4096..u64::from(u32::MAX),
            keep in any::<u32>(),
            timestamp in prop_oneof![Just(Timestamp::IsoUtc), Just(Timestamp::IsoLocal), Just(Timestamp::Tai64n), Just(Timestamp::None)],
            forward in prop_oneof![Just(Forward::Label), Just(Forward::Raw), Just(Forward::Json), Just(Forward::Off)],
            more in of((0..u64::from(u32::MAX), 1..u64::from(u32::MAX), any::<bool>())),
            (include, exclude) in (vec("[a-z.^ü\"]{0,9}", 0..3), vec("[a-z.^ü\"]{0,9}", 0..3)),
            rate in of((1..u64::from(u32::MAX), 1..u64::from(u32::MAX))),
        ) -> LogFile {
            let total = more.map(|(more, ..)| size + more);
            let period_s = more.map(|(_, period, _)| period);
            let compress = if more.is_some_and(|(.., zstd)| zstd) { Compress::Zstd } else { Compress::None };
            let rate = rate.map(|(lines, per_ms)| Rate { lines, per_ms });
            LogFile {
                directory, label, size, keep, total, period_s, compress, timestamp, forward, include, exclude, rate,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(file in service(), comment in any::<String>()) {
            let text = render_service(Path::new(GATEVISOR), &file, &comment).unwrap();
            prop_assert_eq!(parse_service(&text), Ok(file));
        }

        #[test]
        fn log_settings_that_are_written_are_read_back(file in log(), comment in any::<String>()) {
            let text = render_log(Path::new(GATEVISOR), &file, &comment).unwrap();
            prop_assert_eq!(parse_log(&text), Ok(file));
        }
    }
}
