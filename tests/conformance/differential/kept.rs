//! Many lives at a time, and what is done with a life that failed.
//!
//! *Lives here:* trying many at once, and the files in `lives/`, each of which keeps a shrunk life
//! that failed and is named after what it shows. *Does not live here:* a single life, and how a
//! life is shrunk (`shrink`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::life::{Both, live};
use super::model::{ALL, FINISHES};
use super::shrink::{self, Sequence};
use crate::support;

/// The number of lives at one time. Most of each life is s6's pause of one second.
const AT_A_TIME: usize = 64;
/// How long a failing sequence is shrunk.
const SHRINKING: Duration = Duration::from_secs(40);
/// The deadline of waits in a sequence that is being shrunk. A failing sequence waits for an event
/// that never comes, so each failure costs this time. The final sequence must fail with the usual
/// deadline.
const IMPATIENCE: Duration = Duration::from_secs(3);

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/differential/lives"))
}

/// Returns the sequences that once differed. In a file, `#` begins a comment.
pub fn all() -> Vec<Sequence> {
    let files = fs::read_dir(directory()).expect("there is a directory of lives");
    let sequence = |path: PathBuf| -> Sequence {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words: Sequence = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
        for (n, word) in words.iter().enumerate() {
            let known = if n == 0 { &FINISHES[..] } else { &ALL[..] };
            assert!(known.contains(&word.as_str()), "`{word}` in {} means nothing", path.display());
        }
        words
    };
    let all: Vec<Sequence> = files.map(|file| sequence(file.unwrap().path())).collect();
    assert!(!all.is_empty(), "some were kept");
    all
}

/// Keeps a sequence in a file and returns its path.
fn keep(sequence: &[String], why: &str) -> PathBuf {
    let name = format!("found-{}", sequence.join("-"));
    let path = directory().join(name);
    // An assertion prints its two sides on the next two lines.
    let comment: Vec<String> = why.lines().take(3).map(|line| format!("# {line}\n")).collect();
    // In CI, the source tree may belong to another user. The message has the sequence as well.
    let _ = fs::write(&path, format!("{}{}\n", comment.concat(), sequence.join(" ")));
    path
}

/// Returns the message of a panic.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned())).unwrap_or_default()
}

/// Returns why a sequence fails, if it does.
fn failure(both: &Both, sequence: &[String]) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| live(both, sequence))).err().map(|panic| words_of(&*panic))
}

/// Returns the first of these that fails. All are tried at the same time.
fn first_failing(both: &Both, candidates: Vec<Sequence>) -> Option<Sequence> {
    std::thread::scope(|scope| {
        let tried: Vec<_> = candidates
            .into_iter()
            .map(|sequence| scope.spawn(|| failure(both, &sequence).map(|_| sequence)))
            .collect();
        tried.into_iter().find_map(|one| one.join().expect("its panic was caught"))
    })
}

/// Leaves out steps as long as the sequence still fails and there is time. Returns the sequence and
/// its failure.
fn shrunk(whole: Sequence, why: String) -> (Sequence, String) {
    let both = Both::started();
    let until = Instant::now() + SHRINKING;
    support::set_wait_limit(IMPATIENCE);
    let least = shrink::shrunk(whole.clone(), until, |candidates| first_failing(&both, candidates));
    support::set_wait_limit(support::WAIT_LIMIT);
    let confirmed = failure(&both, &least);
    both.abandon();
    match confirmed {
        Some(why) => (least, why),
        None => (whole, why),
    }
}

/// Runs all sequences on both supervisors, many at a time. Returns the first that failed.
fn run(sequences: Vec<Sequence>) -> Option<(Sequence, String)> {
    let both = Both::started();
    let left = Mutex::new(sequences);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let Some(sequence) = left.lock().unwrap().pop() else { return };
                    if let Some(why) = failure(&both, &sequence) {
                        failed.lock().unwrap().get_or_insert((sequence, why));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_some() {
        both.abandon();
    }
    failed
}

/// Runs all sequences on both supervisors. If one fails, it is shrunk and kept, and this function
/// panics with it.
#[expect(clippy::print_stdout, reason = "what is shown of a test that failed")]
pub fn check(sequences: Vec<Sequence>) {
    if let Some((sequence, why)) = run(sequences) {
        println!("`{}` failed: {why}\nleaving out steps…", sequence.join(" "));
        let (least, why) = shrunk(sequence, why);
        let path = keep(&least, &why);
        panic!(
            "they differ: `{}`\n{why}\nthis is kept as {}; name it after what it shows",
            least.join(" "),
            path.display()
        );
    }
}
