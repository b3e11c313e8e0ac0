//! The pages of `docs/start` and `docs/guides`: what they tell a reader to type is typed here.
//!
//! The blocks that begin with ```` ```console ```` are one script for each page, in the order of
//! the page. It runs in a home directory of its own, below which `gatevisor` is a clone of this
//! repository. A line `$ COMMAND` must end with 0, or with N if a comment behind it says
//! `# exit code N`; lines `> …` continue it. The lines below it, up to the next command, are
//! compared with what it printed: `…` stands for any text, a line that is only `…` for any lines,
//! and process ids, times, sizes and percentages for any others. Where there are no lines, nothing
//! is compared.
//!
//! A block is not run here if the line before it is `<!-- not run here: REASON -->`. Lines between
//! `<!-- before this:` and `-->` are what a reader has done already, and are run too.
//!
//! `scripts/check-docs.sh` checks that each page with such blocks has a test here.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use regex::{Captures, Regex};
use tempfile::TempDir;

use crate::support::processes::{self, Held};
use crate::support::{WAIT_LIMIT, spawn, waiting};

/// The variable that marks every process of a page.
const MARK: &str = "GATEVISOR_TEST_PAGE";
/// What a reader finds instead of the temporary home directory.
const READER: &str = "/home/you";
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a page tells its reader to type at one time.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    command: String,
    code: i32,
    printed: Vec<String>,
}

impl Step {
    fn new(line: usize, command: &str) -> Self {
        let (_, code) = command.rsplit_once("# exit code ").unwrap_or(("", "0"));
        Self { line, command: command.to_owned(), code: code.trim().parse().unwrap(), printed: Vec::new() }
    }
}

/// Returns the steps of a page that are run here.
fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut fence, mut before_this, mut previous) = (Vec::<Step>::new(), None, false, "");
    for (line, text) in (1..).zip(page.lines()) {
        if before_this {
            before_this = text != "-->";
            if let (true, Some(step)) = (before_this, steps.last_mut()) {
                step.command += text;
                step.command.push('\n');
            }
        } else if text == "<!-- before this:" {
            before_this = true;
            steps.push(Step::new(line, ""));
        } else if let Some(language) = text.strip_prefix("```") {
            let runs = language == "console" && !previous.starts_with("<!-- not run here: ");
            fence = if fence.is_some() { None } else { Some(runs) };
        } else if fence == Some(true) {
            match (text.strip_prefix("$ "), text.strip_prefix("> "), steps.last_mut()) {
                (Some(command), _, _) => steps.push(Step::new(line, command)),
                (_, Some(more), Some(step)) if step.printed.is_empty() => {
                    let command = format!("{}\n{more}", step.command);
                    *step = Step::new(step.line, &command);
                }
                (_, _, Some(step)) => step.printed.push(text.to_owned()),
                _ => panic!("line {line} is no command, and none is before it"),
            }
        }
        previous = text;
    }
    steps
}

/// Returns what a line of a page stands for.
fn pattern_of(line: &str) -> String {
    // The name of an incident, a time, a number with a unit, a long number such as a process id.
    let varies = concat!(
        r"\d{8}T\d{6}\.\d{3}Z|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?",
        r"|\b\d+(\.\d+)?( ?ms\b| ?s\b|m\b| MB\b| KB\b|%)|\b\d{3,}\b|…| +",
    );
    let any = |found: &Captures<'_>| {
        let unit = found.get(3).map_or("", |unit| unit.as_str());
        match &found[0] {
            "…" => ".*?".to_owned(),
            incident if incident.contains('T') && !incident.contains('-') => {
                r"\d{8}T\d{6}\.\d{3}Z".to_owned()
            }
            time if time.contains('-') => r"[0-9T:. -]+Z?".to_owned(),
            spaces if spaces.trim().is_empty() => " +".to_owned(),
            // Just after its start, a gateway has used no processor time yet.
            _ if unit == "%" => r"([0-9.]+%|-)".to_owned(),
            _ if unit.is_empty() => r"[0-9]+".to_owned(),
            _ => format!("[0-9.hms]+?{unit}"),
        }
    };
    let mut pattern = String::new();
    let mut rest = line.trim_end();
    let varies = Regex::new(varies).unwrap();
    while let Some(found) = varies.captures(rest) {
        let whole = found.get(0).unwrap();
        pattern += &regex::escape(&rest[..whole.start()]);
        pattern += &any(&found);
        rest = &rest[whole.end()..];
    }
    pattern + &regex::escape(rest)
}

/// Returns whether a command printed what the page says, or the page says nothing about that.
fn agrees(page: &[String], printed: &str) -> bool {
    let mut pattern = String::from("^");
    let end = page.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
    for line in page.iter().take(end) {
        let of_line = if line == "…" { "(?:.*\n)*?".to_owned() } else { pattern_of(line) + " *\n" };
        pattern += &of_line;
    }
    let printed = format!("{}\n", printed.trim_end());
    end == 0 || Regex::new(&(pattern + "$")).unwrap().is_match(&printed)
}

/// The home directory of a page's reader, and what runs because of the page.
struct Reader {
    root: TempDir,
}

impl Reader {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let reader = Self { root };
        let clone = reader.clone_of_ours();
        fs::create_dir_all(reader.programs()).unwrap();
        symlink(env!("CARGO_BIN_EXE_gatevisor"), reader.programs().join("gatevisor")).unwrap();
        fs::create_dir_all(clone.join("target")).unwrap();
        symlink(env!("CARGO_BIN_EXE_gatevisor"), clone.join("target/gatevisor")).unwrap();
        for directory in ["examples", "deploy"] {
            fs::create_dir_all(clone.join(directory)).unwrap();
            for entry in fs::read_dir(repository().join(directory)).unwrap().flatten() {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), clone.join(directory).join(entry.file_name())).unwrap();
                }
            }
        }
        reader
    }

    fn clone_of_ours(&self) -> PathBuf {
        self.root.path().join("gatevisor")
    }

    fn programs(&self) -> PathBuf {
        self.root.path().join(".local/bin")
    }

    /// Runs the steps, and returns what each printed, and its exit code.
    fn runs(&self, steps: &[Step]) -> Vec<(String, i32)> {
        let mut script = String::new();
        for step in steps {
            // A record separator ends what a command printed, and then its exit code.
            // The first command that ends otherwise than the page says is the last.
            let (command, code) = (&step.command, step.code);
            writeln!(
                script,
                "{command}\nended=$?; printf '\\036%d\\036' $ended; [ $ended = {code} ] || exit"
            )
            .unwrap();
        }
        let (file, out) = (self.root.path().join("script"), self.root.path().join("printed"));
        fs::write(&file, script).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.programs().display());
        let mut command = Command::new("/bin/bash");
        command.args(["--norc", "--noprofile"]).arg(&file).current_dir(self.clone_of_ours());
        command.env_clear().env("PATH", path).env("HOME", self.root.path()).env("LANG", "C.UTF-8");
        command.env(MARK, self.root.path()).env("TZ", "UTC").stdin(Stdio::null());
        let printed = File::create(&out).unwrap();
        command.stdout(printed.try_clone().unwrap()).stderr(printed);
        let mut shell = spawn(&mut command).unwrap();
        let held = Held::of(i32::try_from(shell.id()).unwrap()).unwrap();
        let in_time = held.gone_by(Instant::now() + 4 * WAIT_LIMIT);
        let printed = self.as_read(&fs::read_to_string(&out).unwrap());
        assert!(in_time, "the commands do not end; so far: {printed}");
        shell.wait().unwrap();
        let parts: Vec<&str> = printed.split('\u{1e}').collect();
        parts
            .as_chunks()
            .0
            .iter()
            .map(|[printed, code]| ((*printed).to_owned(), code.parse().unwrap()))
            .collect()
    }

    /// Returns a text as a reader sees it, whose files are elsewhere.
    fn as_read(&self, printed: &str) -> String {
        let printed = printed.replace(env!("CARGO_BIN_EXE_gatevisor"), "gatevisor");
        let printed = printed.replace(&*self.programs().join("gatevisor").to_string_lossy(), "gatevisor");
        printed.replace(&*self.root.path().to_string_lossy(), READER)
    }

    fn processes(&self) -> Vec<i32> {
        processes::marked(MARK, self.root.path())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let deadline = Instant::now() + WAIT_LIMIT;
        for held in self.processes().into_iter().filter_map(Held::of) {
            let _ = std::thread::panicking() || held.gone_by(deadline);
        }
        let left: Vec<String> = self.processes().into_iter().map(processes::describe).collect();
        waiting::polled("that everything has ended", || {
            let running: Vec<Held> = self.processes().into_iter().filter_map(Held::of).collect();
            running.iter().for_each(Held::kill);
            running.is_empty().then_some(())
        });
        if !std::thread::panicking() {
            assert!(left.is_empty(), "the page leaves running what it began: {left:#?}");
        }
    }
}

/// Types what a page says, and compares what is printed.
#[track_caller]
fn type_in(page: &str) {
    let steps = steps(&fs::read_to_string(repository().join("docs").join(page)).unwrap());
    let reader = Reader::new();
    let ended = reader.runs(&steps);
    for (step, (printed, code)) in steps.iter().zip(&ended) {
        let place = format!("docs/{page}:{}: `{}`", step.line, step.command);
        assert_eq!(*code, step.code, "{place} printed:\n{printed}");
        let expected = step.printed.join("\n");
        assert!(agrees(&step.printed, printed), "{place} printed:\n{printed}\ninstead of:\n{expected}");
    }
    assert_eq!(ended.len(), steps.len(), "docs/{page}: the script ended early");
}

#[test]
fn what_the_quick_start_says_happens() {
    type_in("start/quick-start.md");
}

#[test]
fn a_gateway_is_drained_as_the_page_says() {
    type_in("guides/drain.md");
}

#[test]
fn where_alerts_go_is_checked_as_the_page_says() {
    type_in("guides/alerts.md");
}

#[test]
fn evidence_is_shown_and_collected_as_the_page_says() {
    type_in("guides/incidents.md");
}

#[test]
fn what_ran_under_pm2_is_brought_as_the_page_says() {
    type_in("guides/migrate.md");
}

#[test]
fn logs_are_shown_as_the_page_says() {
    type_in("guides/logs.md");
}

#[test]
fn what_to_do_when_a_gateway_misbehaves_works() {
    type_in("guides/misbehaves.md");
}

#[test]
fn what_the_page_of_the_security_model_shows_is_so() {
    type_in("guides/security.md");
}

#[test]
fn an_agent_of_ones_own_runs_as_the_page_says() {
    type_in("guides/three-agents.md");
}

#[test]
fn what_the_page_removes_is_removed() {
    type_in("guides/uninstall.md");
}

#[test]
fn an_upgrade_goes_as_the_page_says() {
    type_in("guides/upgrade.md");
}

#[test]
fn a_page_is_read_as_the_steps_that_it_has() {
    let page = "Text\n<!-- before this:\necho 0\n-->\n```console\n$ echo a \\\n> b\na b\n$ false # exit code 1\n```\n\
                <!-- not run here: it needs Docker -->\n```console\n$ docker ps\n```\n```toml\n$ x\n```\n";
    let expected = [
        (2, "echo 0\n", 0, vec![]),
        (6, "echo a \\\nb", 0, vec!["a b"]),
        (9, "false # exit code 1", 1, vec![]),
    ];
    let expected = expected.map(|(line, command, code, printed)| Step {
        line,
        command: command.to_owned(),
        code,
        printed: printed.into_iter().map(str::to_owned).collect(),
    });
    assert_eq!(steps(page), expected);
}

#[test]
fn what_differs_from_one_run_to_the_next_is_not_compared() {
    let said = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let status = said(&["PROFILE  PID   UPTIME  CPU  MEMORY", "coder    4711  2s      3%   91 MB"]);
    assert!(agrees(&status, "PROFILE  PID  UPTIME  CPU   MEMORY\ncoder    5    1m02s   -     112.5 MB\n"));
    assert!(!agrees(&status, "PROFILE  PID  UPTIME  CPU   MEMORY\nwriter   5    1m02s   -     112 MB\n"));
    assert!(agrees(
        &said(&["…", "at 2026-11-30T10:00:00.000Z it ended", "…"]),
        "a\nb\nat 2027-01-02T00:00:00.123Z it ended\n"
    ));
    assert!(agrees(&said(&["in /x/20261130T032612.926Z-coder"]), "in /x/20270101T000000.000Z-coder\n"));
    assert!(!agrees(&said(&["2 services"]), "3 services\n"));
    assert!(!agrees(&said(&["exit code 1"]), "exit code 2\n"));
    assert!(!agrees(&said(&["one line"]), "one line\nand another\n"));
    assert!(agrees(&[], "anything"));
}
