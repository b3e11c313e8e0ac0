//! `gatevisor logs`: prints the output of gateways.
//!
//! *Lives here:* the options, and printing.
//! *Does not live here:* reading log directories (`gatevisor-logreader`).

mod find;
mod show;
mod when;

pub use find::directory;

use std::ops::ControlFlow;

use gatevisor_logreader::{self as reader, Clock, Pick, ReadOptions, ReaderEvent, Time};
use gatevisor_paths::by_path;
use gatevisor_term::stream;
use regex::bytes::{Regex, RegexBuilder};

use crate::args;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit, Outcome};
use crate::out::{self, Page};

/// The default number of lines for each gateway.
const LINES: usize = 10;
/// The most bytes of output that are collected before they are printed.
const COLLECTED: usize = 64 << 10;

/// Prints the last lines, and with `-f` also new ones.
#[expect(clippy::disallowed_methods, reason = "it is watched for its end, not written to")]
pub fn run(context: &CommandContext, options: &args::Logs) -> Outcome {
    let lines = number_of_lines(options)?;
    let find = |name| find::directory(&context.manager, &name).map(|directory| (name, directory));
    let found = find::chosen(context, options)?.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let (found, code) = find::readable(context, found)?;
    let (names, dirs): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let pick = pick(options, find::common_clock(&dirs))?;
    if !options.follow
        && let [directory] = dirs.as_slice()
        && by_path::look(&directory.path).is_err()
    {
        let (name, path) = (&directory.label, directory.path.display());
        return Err(context.absent(format!("{name} has no log yet; it would be in `{path}`")));
    }
    let look = match (context.json, options.raw) {
        (true, _) => show::LineStyle::Json,
        (false, true) => show::LineStyle::Raw,
        (false, false) => show::LineStyle::Escaped,
    };
    let printer = show::Printer::new(look, &names, &dirs);
    let mut collected = Page::new();
    let mut failure = None;
    let reading = ReadOptions { dirs, pick, lines, follow: options.follow };
    let result = reader::run_until(&reading, Some(stream::stdout_fd()), &mut |event| {
        let written = match event {
            ReaderEvent::Line(line) => {
                let added = printer.print(&line, &mut collected);
                if added.is_ok() && collected.len() < COLLECTED {
                    return ControlFlow::Continue(());
                }
                added.and_then(|()| collected.print())
            }
            ReaderEvent::Damaged { label, archive, why } => {
                out::warn(&format!("{label}: not everything in the archive `{archive}` can be read: {why}"));
                return ControlFlow::Continue(());
            }
            ReaderEvent::Idle => collected.print(),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match (failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(CommandError::of(Exit::System, &error)),
        (None, Ok(())) => Ok(code),
    }
}

fn number_of_lines(options: &args::Logs) -> Result<Option<usize>, CommandError> {
    match options.lines.as_deref() {
        None if options.since.is_some() || options.until.is_some() => Ok(None),
        None => Ok(Some(LINES)),
        Some("all") => Ok(None),
        Some(number) => number.parse().map(Some).map_err(|_| {
            CommandError::new(Exit::Usage, format!("-n takes a number of lines or `all`, not `{number}`"))
        }),
    }
}

fn pick(options: &args::Logs, clock: Clock) -> Result<Pick, CommandError> {
    let (now, zone) = (jiff::Zoned::now(), show::zone(clock));
    let moment = |option: &str, text: &Option<String>| -> Result<Option<Time>, CommandError> {
        let Some(text) = text else { return Ok(None) };
        when::moment(text, &now, &zone).map(Some).ok_or_else(|| {
            CommandError::new(Exit::Usage, format!("{option} takes {}, not `{text}`", when::EXAMPLES))
        })
    };
    let since = moment("--since", &options.since)?;
    let until = moment("--until", &options.until)?;
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(CommandError::new(
            Exit::Usage,
            "--since is later than --until, so there is nothing between",
        ));
    }
    let grep = options.grep.as_deref().map(|text| regex(text, options.ignore_case)).transpose()?;
    Ok(Pick { since, until, grep })
}

fn regex(text: &str, ignore_case: bool) -> Result<Regex, CommandError> {
    RegexBuilder::new(text).case_insensitive(ignore_case).build().map_err(|error| {
        let why = match error {
            regex::Error::CompiledTooBig(limit) => format!("compiled it has more than {limit} bytes"),
            // The last line holds the message; those above show the place, in letters of one width.
            other => {
                let words = other.to_string();
                words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        };
        CommandError::new(
            Exit::Usage,
            format!("--grep takes a regular expression, and `{text}` is none: {why}"),
        )
    })
}
