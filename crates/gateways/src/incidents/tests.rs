//! Incidents of real processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// A process like that of a service, with a child, and a home for its logs.
struct Bed {
    home: tempfile::TempDir,
    child: Child,
    times: Times,
}

impl Bed {
    fn new(script: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let service = home.path().join("run/service/gateway-coder");
        fs::create_dir_all(&service).unwrap();
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script, "leader"]).stdin(Stdio::null()).stdout(Stdio::piped());
        // Nobody waits for what the leader has started.
        command.stderr(Stdio::null()).env("SOME_API_KEY", "in-the-environment");
        let mut child = command.spawn().unwrap();
        // Once it has written a line, it has executed its program.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // More than any machine needs.
        Self { home, child, times: Times { part: Duration::from_mins(5), all: Duration::from_mins(5) } }
    }

    /// Returns a bed whose leader and its child have both executed `sleep`, which no event tells.
    fn sleeping() -> Self {
        let bed = Self::new(SLEEPER);
        let leader = bed.pid().get();
        // The kernel knows the name before the command line.
        let sleeps =
            |process: &Process| process.session == leader && process.words().starts_with("sleep 360");
        polled("two processes that sleep", || proc::all().filter(sleeps).count() == 2);
        bed
    }

    fn pid(&self) -> Pid {
        Pid::new(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn collect(
        &self,
        command: Option<&Evidence>,
        log: &dyn Fn(&mut dyn Write),
    ) -> Result<Incident, IncidentError> {
        let began = Process::of(self.pid().get()).map_or(0, |process| process.began);
        self.collect_of(began, command, log)
    }

    fn collect_of(
        &self,
        start_ticks: u64,
        command: Option<&Evidence>,
        log: &dyn Fn(&mut dyn Write),
    ) -> Result<Incident, IncidentError> {
        let dotenv = self.home.path().join(".env");
        fs::write(&dotenv, "TELEGRAM_BOT_TOKEN=\"123456:telegram\"\n").unwrap();
        let request = IncidentRequest {
            logs: &self.home.path().join("logs"),
            name: "coder",
            service: &self.home.path().join("run/service/gateway-coder"),
            pid: self.pid(),
            start_ticks,
            reason: "no answer,\n3 misses",
            history: &["10:00 answered".to_owned(), "10:01 no answer".to_owned()],
            command,
            at: "2026-11-28T10:00:00Z".parse().unwrap(),
            environment_files: &[dotenv],
            log,
        };
        collect_within(&request, self.times)
    }

    fn evidence(&self, script: &str, timeout_ms: u64) -> Evidence {
        let argv = ["sh", "-c", script].map(Into::into).to_vec();
        Evidence { argv, directory: self.home.path().to_owned(), timeout_ms }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(self.pid().get()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Looks a hundred times a second, for half a minute at most.
fn polled(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited for {what}");
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

const SLEEPER: &str = "sleep 3600 & echo up; exec sleep 3601";

fn text(incident: &Incident, part: &str) -> String {
    String::from_utf8_lossy(&fs::read(incident.path.join(part)).unwrap()).into_owned()
}

fn missing<'a>(incident: &'a Incident, part: &str) -> Option<&'a str> {
    incident.parts.iter().find(|found| found.file == part).unwrap().missing.as_deref()
}

#[test]
fn an_incident_has_the_processes_their_threads_files_memory_log_and_probes() {
    let bed = Bed::sleeping();
    let incident = bed.collect(None, &|out| drop(out.write_all(b"the last line\n"))).unwrap();
    assert_eq!((incident.name.as_str(), incident.reason.as_str()), ("coder", "no answer, 3 misses"));
    assert_eq!(incident.path, bed.home.path().join("logs/incidents/20261128T100000.000Z-coder"));
    assert_eq!(list(&bed.home.path().join("logs")).unwrap(), std::slice::from_ref(&incident));
    let tree = text(&incident, "processes.txt");
    assert_eq!(tree.matches(" sleep (").count(), 2, "{tree}");
    assert!(text(&incident, "commands.txt").contains("sleep 3601"), "{incident:?}");
    assert!(text(&incident, "threads.txt").contains("waits in"), "{incident:?}");
    assert!(text(&incident, "files.txt").contains("/dev/null"), "{}", text(&incident, "files.txt"));
    assert!(text(&incident, "memory.txt").contains("VmRSS"));
    assert!(text(&incident, "machine.txt").contains("/proc/loadavg: "));
    assert!(text(&incident, "group.txt").contains("/cgroup: "));
    assert_eq!(text(&incident, "log.txt"), "the last line\n");
    assert_eq!(text(&incident, "probes.txt"), "10:00 answered\n10:01 no answer\n");
    assert!(incident.parts.iter().all(|part| part.missing.is_none()), "{incident:?}");
}

#[test]
fn a_stopped_process_is_told_by_its_state() {
    let bed = Bed::new(SLEEPER);
    let leader = rustix::process::Pid::from_raw(bed.pid().get()).unwrap();
    rustix::process::kill_process(leader, rustix::process::Signal::STOP).unwrap();
    let stopped = rustix::process::WaitIdOptions::STOPPED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(leader), stopped).unwrap();
    let incident = bed.collect(None, &|_| {}).unwrap();
    assert!(text(&incident, "processes.txt").contains(" T  "), "{}", text(&incident, "processes.txt"));
}

#[test]
fn what_never_ends_costs_its_time_and_what_came_before_is_there() {
    let mut bed = Bed::new(SLEEPER);
    bed.times.part = Duration::from_secs(1);
    let evidence = bed.evidence("echo begun; exec sleep 3600", 400);
    let log = |out: &mut dyn Write| {
        let _ = out.write_all(b"a line\n");
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    };
    let incident = bed.collect(Some(&evidence), &log).unwrap();
    for part in ["log.txt", "evidence.txt"] {
        assert_eq!(missing(&incident, part), Some("it did not come in time"), "{part}");
    }
    // The part may be cut if the machine was too busy.
    assert!("a line\n".starts_with(&text(&incident, "log.txt")), "{}", text(&incident, "log.txt"));
}

#[test]
fn the_command_is_told_whom_it_is_about_and_what_it_prints_is_kept_with_its_exit_code() {
    let bed = Bed::new(SLEEPER);
    let script = "echo $GATEVISOR_INCIDENT_NAME $GATEVISOR_INCIDENT_PID; echo no >&2; pwd; exit 3";
    let incident = bed.collect(Some(&bed.evidence(script, 60_000)), &|_| {}).unwrap();
    let home = bed.home.path().canonicalize().unwrap();
    let expected = format!("coder {}\nno\n{}\n", bed.pid(), home.display());
    assert_eq!(text(&incident, "evidence.txt"), expected);
    assert_eq!(missing(&incident, "evidence.txt"), Some("what wrote it ended with exit code 3"));
    let none = Evidence { argv: vec!["no-such-program".into()], ..bed.evidence("", 60_000) };
    let incident = bed.collect(Some(&none), &|_| {}).unwrap();
    assert!(text(&incident, "evidence.txt").contains("cannot be executed"), "{incident:?}");
}

#[test]
fn what_the_command_leaves_behind_in_its_group_is_ended_when_its_time_is_over() {
    let bed = Bed::new(SLEEPER);
    let incident = bed.collect(Some(&bed.evidence("echo $$; sleep 3602 & wait", 2000)), &|_| {}).unwrap();
    let Ok(group) = text(&incident, "evidence.txt").trim().parse::<i32>() else {
        // On a machine that is busier than that, it was ended before it could write anything.
        assert_eq!(missing(&incident, "evidence.txt"), Some("it did not come in time"));
        return;
    };
    // If the first process reaps nobody, an ended process may stay for ever.
    polled("the end of the group", || !proc::all().any(|process| process.session == group));
}

#[test]
fn no_secret_is_written_wherever_it_stands() {
    let bed = Bed::new("echo up; exec sleep 3600 # 123456:telegram");
    let evidence = bed.evidence("echo 123456:telegram", 60_000);
    let log = |out: &mut dyn Write| drop(out.write_all(b"GET /bot123456:telegram/getMe\n"));
    let incident = bed.collect(Some(&evidence), &log).unwrap();
    assert_eq!(text(&incident, "log.txt"), "GET /bot[TELEGRAM_BOT_TOKEN]/getMe\n");
    assert_eq!(text(&incident, "evidence.txt"), "[TELEGRAM_BOT_TOKEN]\n");
    for part in &incident.parts {
        let text = text(&incident, &part.file);
        assert!(!text.contains("123456:telegram"), "{}: {text}", part.file);
        assert!(!text.contains("in-the-environment"), "{}: {text}", part.file);
    }
}

#[test]
fn nothing_is_collected_about_another_process_with_the_same_number() {
    let bed = Bed::new(SLEEPER);
    let error = bed.collect_of(1, None, &|_| {}).unwrap_err();
    let expected = format!("process {} has ended, so there is nothing to collect about it", bed.pid());
    assert_eq!(error.to_string(), expected);
    assert!(!bed.home.path().join("logs").exists());
}

#[test]
fn evidence_without_an_end_is_cut() {
    let bed = Bed::new(SLEEPER);
    let evidence = bed.evidence("while :; do echo 0123456789012345678901234567890123456789; done", 60_000);
    let incident = bed.collect(Some(&evidence), &|_| {}).unwrap();
    assert_eq!(text(&incident, "evidence.txt").len(), PART_BYTES);
    assert_eq!(missing(&incident, "evidence.txt"), Some("it is longer than 262144 bytes"));
}
