//! Runs a command's job for each of several gateways in parallel, and reports each result.
//!
//! *Lives here:* the runner of every verb that changes or waits for gateways: it runs the job,
//! prints one result line for each and a summary, and returns the worst exit code.
//! *Does not live here:* which gateways (`choice`), and the job for one of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gatevisor_gateways::profile::ProfileName;
use serde_json::{Map, Value, json};

use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::{interrupt, out};

/// The most gateways that are handled at the same time.
const AT_A_TIME: usize = 16;

/// The result of a job for one gateway.
#[derive(Debug, Default)]
pub struct Told {
    /// The result in words.
    pub words: String,
    /// Warnings although it succeeded.
    pub warnings: Vec<String>,
    /// Further fields of the JSON object.
    pub fields: Vec<(&'static str, Value)>,
}

impl Told {
    /// Returns the result with these words.
    pub fn new(words: impl Into<String>, warnings: Vec<String>) -> Self {
        Self { words: words.into(), warnings, fields: Vec::new() }
    }
}

/// The result of a job, or why it failed.
pub type Result<T = Told> = std::result::Result<T, CommandError>;

/// How far the job for a gateway is.
enum Progress {
    /// It has not begun, and nothing of it is done.
    Waiting,
    /// It has begun, and may have changed something.
    UnderWay,
    /// It has ended.
    Ended(Result),
}

/// How far all jobs are, in the order of the names.
type AllProgress = Arc<Mutex<Vec<Progress>>>;

/// What Ctrl-C does to a gateway whose job is under way.
pub trait Interruption: Send + 'static {
    /// Returns whether the job for this gateway can still be left unfinished. If not, the command
    /// goes on.
    fn may_end(&self, name: &ProfileName) -> bool;

    /// Undoes what is unfinished, and returns as text in which state the gateway is then.
    fn end(&self, name: &ProfileName) -> String;
}

/// An interruption that undoes nothing and may always end.
struct AsItIs;

impl Interruption for AsItIs {
    fn may_end(&self, _: &ProfileName) -> bool {
        true
    }

    fn end(&self, _: &ProfileName) -> String {
        "not finished".to_owned()
    }
}

/// Runs a job for each gateway, many at the same time, and returns the results in the order of the
/// names.
///
/// Ctrl-C prints for which gateways the job was done.
pub fn at_once(
    context: &CommandContext,
    names: &[ProfileName],
    job: impl Fn(&ProfileName) -> Result + Sync,
) -> Vec<Result> {
    if let [name] = names {
        return vec![job(name)];
    }
    at_once_until(context, names, AsItIs, job)
}

/// Like [`at_once`], with another meaning of Ctrl-C.
pub fn at_once_until(
    context: &CommandContext,
    names: &[ProfileName],
    interruption: impl Interruption,
    job: impl Fn(&ProfileName) -> Result + Sync,
) -> Vec<Result> {
    let progress: AllProgress = Arc::new(Mutex::new(names.iter().map(|_| Progress::Waiting).collect()));
    let (shown, all, json) = (Arc::clone(&progress), names.to_vec(), context.json);
    interrupt::on_signal(move || interrupted(&all, &shown, &interruption, json));
    let note = |index: usize, now: Progress| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = progress.get_mut(index) {
            *place = now;
        }
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..names.len().min(AT_A_TIME) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = names.get(index) else { return };
                    note(index, Progress::UnderWay);
                    note(index, Progress::Ended(job(name)));
                }
            });
        }
    });
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let result = |progress| match progress {
        Progress::Ended(result) => result,
        Progress::Waiting | Progress::UnderWay => Err(CommandError::new(Exit::Bug, "nothing was done")),
    };
    std::mem::take(&mut *progress).into_iter().map(result).collect()
}

/// Prints how far the command has come. Returns whether the command ends.
fn interrupted(
    names: &[ProfileName],
    progress: &AllProgress,
    interruption: &impl Interruption,
    json: bool,
) -> bool {
    // No job begins or ends while this is locked.
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let is_under_way = |progress: &Progress| matches!(progress, Progress::UnderWay);
    let under_way = names.iter().zip(progress.iter()).filter(|(_, progress)| is_under_way(progress));
    let too_late: Vec<&str> = under_way
        .map(|(name, _)| name)
        .filter(|name| !interruption.may_end(name))
        .map(ProfileName::as_str)
        .collect();
    if !too_late.is_empty() {
        out::say(format_args!("{}: too late to interrupt this; it is nearly done", too_late.join(", ")));
        return false;
    }
    say_how_far(names, &progress, interruption, json);
    true
}

fn say_how_far(names: &[ProfileName], progress: &[Progress], interruption: &impl Interruption, json: bool) {
    let done = progress.iter().filter(|progress| matches!(progress, Progress::Ended(_))).count();
    out::say(format_args!("interrupted after {done} of {}", names.len()));
    let unfinished = |name: &ProfileName, words: String| {
        let error = format!("interrupted; {words}");
        (words, json!({ "profile": name.as_str(), "ok": false, "error": error }))
    };
    for (name, progress) in names.iter().zip(progress) {
        let (words, line) = match progress {
            Progress::Ended(Ok(told)) => (told.words.clone(), object(name, told).into()),
            Progress::Ended(Err(failure)) => (failure.message.clone(), failed(name, failure)),
            Progress::UnderWay => unfinished(name, interruption.end(name)),
            Progress::Waiting => unfinished(name, "not begun".to_owned()),
        };
        out::say(format_args!("{name}: {words}"));
        if json {
            let _ = out::json(&line);
        }
    }
}

/// Prints one result for each gateway, and a summary if there are several; returns the worst exit
/// code, which is the highest.
pub fn tell(
    context: &CommandContext,
    names: &[ProfileName],
    results: impl IntoIterator<Item = Result>,
) -> Outcome {
    let (mut code, mut failures) = (Exit::Done.code(), 0_usize);
    let mut printed = Ok(());
    // Each job is done and reported, even if nobody reads the results before it.
    for (name, result) in names.iter().zip(results) {
        let line = match result {
            Ok(told) => {
                out::warn_all(&told.warnings);
                if context.json {
                    out::json(&object(name, &told))
                } else {
                    out::line(format_args!("{name}: {}", told.words))
                }
            }
            Err(failure) => {
                let line = if context.json { out::json(&failed(name, &failure)) } else { Ok(()) };
                code = code.max(out::fail(&failure));
                failures = failures.saturating_add(1);
                line
            }
        };
        printed = printed.and(line);
    }
    summarize(names.len(), failures);
    if code == Exit::Done.code() { printed.and(DONE) } else { Ok(code) }
}

/// Reports how many of several succeeded.
fn summarize(all: usize, failures: usize) {
    let done = all.saturating_sub(failures);
    match (all, failures) {
        (0 | 1, _) => {}
        (_, 0) => out::say(format_args!("{all} gateways: all done")),
        _ => out::say(format_args!("{all} gateways: {done} done, {failures} failed")),
    }
}

fn object(name: &ProfileName, told: &Told) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("profile".to_owned(), json!(name.as_str()));
    object.insert("ok".to_owned(), json!(true));
    object.extend(told.fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone())));
    object.insert("result".to_owned(), json!(told.words));
    object
}

fn failed(name: &ProfileName, failure: &CommandError) -> Value {
    json!({
        "profile": name.as_str(), "ok": false, "error": failure.message, "exit": failure.code,
        "last_lines": failure.lines,
    })
}

/// Shows each of several gateways in order. If one cannot be shown, the others still are. Returns
/// the worst exit code.
pub fn shown(names: &[ProfileName], mut show: impl FnMut(&ProfileName) -> Outcome) -> Outcome {
    if let [name] = names {
        return show(name);
    }
    let mut worst = Exit::Done.code();
    for name in names {
        match show(name) {
            Ok(code) => worst = worst.max(code),
            // The reader has gone.
            Err(failure) if failure.message.is_empty() => return Err(failure),
            Err(failure) => worst = worst.max(out::fail(&failure)),
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that is under way can be interrupted.
    struct TooLate;

    impl Interruption for TooLate {
        fn may_end(&self, _: &ProfileName) -> bool {
            false
        }

        fn end(&self, name: &ProfileName) -> String {
            unreachable!("the job for {name} is not under way")
        }
    }

    #[test]
    fn what_has_not_begun_is_never_too_late_to_interrupt() {
        let names: [ProfileName; 2] = ["coder", "writer"].map(|name| name.parse().unwrap());
        let ends = |second: Progress| {
            let all = Arc::new(Mutex::new(vec![Progress::Ended(Ok(Told::default())), second]));
            interrupted(&names, &all, &TooLate, false)
        };
        assert!(ends(Progress::Waiting));
        assert!(!ends(Progress::UnderWay));
    }
}
