//! What a slot's settings make of its command, as the kernel sees it.
//!
//! Each is tried as root, who becomes another user, and as an ordinary user. Tests that an ordinary
//! user starts leave out what needs root.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Slot, interpreter, stdout};
use landlock::{ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};

/// Bits of capabilities.
const KILL: u64 = 1 << 5;
const SETPCAP: u64 = 1 << 8;
const NET_BIND_SERVICE: u64 = 1 << 10;
/// A user who owns nothing.
const STRANGER: u32 = 54_321;

/// Who starts the interpreter, and whom it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Root starts it, and it stays root.
    Root,
    /// Root starts it, and it becomes [`STRANGER`].
    Dropping,
    /// An ordinary user starts it.
    Ordinary,
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Returns those who can be tried here and have no rights when the command runs.
fn without_rights() -> Vec<Who> {
    if is_root() { vec![Who::Dropping, Who::Ordinary] } else { vec![Who::Ordinary] }
}

/// A slot that is tried by somebody, with a directory that is theirs.
struct Bed {
    slot: Slot,
    who: Who,
    program: PathBuf,
}

impl Bed {
    fn new(who: Who, command: &str, settings: &str) -> Self {
        let user = if who == Who::Dropping { format!("user = \"{STRANGER}\"\n") } else { String::new() };
        let script = format!("command = [\"sh\", \"-c\", '''{command}''']\n{user}{settings}\n");
        let slot = Slot::new(&script);
        for made in ["data", "own"] {
            let path = slot.path().join(made);
            fs::create_dir(&path).unwrap();
            if is_root() {
                chown(&path, Some(STRANGER), None).unwrap();
            }
        }
        // The test's own may be in a directory that nobody else can enter.
        let program = slot.path().join("interpreter");
        fs::copy(interpreter(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { slot, who, program }
    }

    fn path(&self) -> &Path {
        self.slot.path()
    }

    /// Returns the interpreter's call, after a shell has executed `before`.
    fn command(&self, before: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = format!("{before}\nexec \"$0\" service ./run gateway-coder");
        command.arg("-c").arg(script).arg(&self.program).current_dir(self.path()).stdin(Stdio::null());
        command.env("SLOT", self.path());
        if self.who == Who::Ordinary && is_root() {
            command.uid(STRANGER).gid(STRANGER);
        }
        command
    }

    fn run_after(&self, before: &str) -> Output {
        loop {
            let output = self.command(before).output().unwrap();
            // Another test was forking while the interpreter was copied: its child held it open for
            // a moment.
            if output.status.code() != Some(126) || !stderr(&output).contains("busy") {
                return output;
            }
        }
    }

    fn run(&self) -> Output {
        self.run_after("")
    }

    /// Checks that the command was not started, and returns the one line that says why.
    fn refused(&self, before: &str) -> String {
        let output = self.run_after(before);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(111), "{:?}: {said}", self.who);
        let left = self.slot.start_error().unwrap_or_default();
        assert_eq!(said, format!("gatevisor: gateway-coder: {left}"));
        assert_eq!(left.matches('\n').count(), 1, "{left:?} is one line");
        left
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns what `/proc/self/status` says about `key`.
fn field<'a>(status: &'a str, key: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {status}"));
    line.split_once(':').unwrap().1.trim()
}

fn capabilities_of_this_test(key: &str) -> u64 {
    u64::from_str_radix(field(&fs::read_to_string("/proc/self/status").unwrap(), key), 16).unwrap()
}

fn can_drop_capabilities() -> bool {
    capabilities_of_this_test("CapEff") & SETPCAP != 0
}

fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V3))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Checks that a slot which asks for Landlock says that there is none; returns whether that was so.
fn says_that_landlock_is_missing() -> bool {
    if has_landlock() {
        return false;
    }
    for who in without_rights() {
        let lax = Bed::new(who, "echo ran", "[landlock]\nwrite = [\"/tmp\"]");
        let said = stdout(&lax.run());
        assert!(
            said.contains("warning: it runs without `landlock`: ") && said.ends_with("\nran\n"),
            "{said}"
        );
        let strict = Bed::new(who, "echo ran", "strict = true\n[landlock]\nwrite = [\"/tmp\"]");
        assert!(strict.refused("").starts_with("confining: `landlock`: "));
    }
    true
}

#[test]
fn limits_are_those_of_the_command() {
    let settings = "[limits]\nnofile = \"64:128\"\ncore = 0\nfsize = 1000000\nmemlock = \"0:4096\"\ncpu = 1000\n\
                    nproc = \"500:600\"\nstack = 4194304\nas = 4000000000\n";
    for who in without_rights() {
        let output = Bed::new(who, "cat /proc/self/limits", settings).run();
        let limits = stdout(&output);
        for (name, soft, hard) in [
            ("Max open files", "64", "128"),
            ("Max core file size", "0", "0"),
            ("Max file size", "1000000", "1000000"),
            ("Max locked memory", "0", "4096"),
            ("Max cpu time", "1000", "1000"),
            ("Max processes", "500", "600"),
            ("Max stack size", "4194304", "4194304"),
            ("Max address space", "4000000000", "4000000000"),
        ] {
            let row = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| {
                panic!("{who:?}: {name}: {limits}{}", stderr(&output));
            });
            let row: Vec<&str> = row.split_whitespace().collect();
            assert_eq!(row[..2], [soft, hard], "{who:?}: {name}");
        }
    }
}

#[test]
fn a_limit_above_the_hard_one_is_clamped_with_a_warning_or_refused() {
    for who in without_rights() {
        let lax = Bed::new(who, "ulimit -Sn; ulimit -Hn", "[limits]\nnofile = \"50:999\"");
        let said = stdout(&lax.run_after("ulimit -n 100"));
        assert_eq!(
            said,
            "gatevisor: gateway-coder: warning: it runs without `limits.nofile = 50:999`: Operation not permitted; this \
             user cannot go above 100, which it gets; ask for no more (errno 1)\n50\n100\n",
            "{who:?}"
        );
        let strict = Bed::new(who, "echo ran", "strict = true\n[limits]\nnofile = 999");
        assert_eq!(
            strict.refused("ulimit -n 100"),
            "confining: `limits.nofile = 999`: Operation not permitted; this user cannot go above 100, which it gets; ask \
             for no more (errno 1)\n"
        );
    }
}

#[test]
fn a_nice_value_that_is_not_permitted_is_a_warning_or_refused() {
    for who in without_rights() {
        let said = stdout(&Bed::new(who, "echo ran", "nice = -5").run());
        assert!(
            said.starts_with("gatevisor: gateway-coder: warning: it runs without `nice = -5`: "),
            "{who:?}: {said}"
        );
        assert!(said.ends_with("\nran\n"), "{said}");
        assert!(
            Bed::new(who, "", "nice = -5\nstrict = true").refused("").starts_with("confining: `nice = -5`: ")
        );
    }
}

#[test]
fn no_new_privileges_is_set_only_where_the_slot_says_so() {
    let status = "cat /proc/self/status";
    for who in without_rights() {
        let bare = stdout(&Bed::new(who, status, "").run());
        let with = stdout(&Bed::new(who, status, "no-new-privileges = true\nstrict = true").run());
        let before = fs::read_to_string("/proc/self/status").unwrap();
        assert_eq!(field(&bare, "NoNewPrivs"), field(&before, "NoNewPrivs"));
        assert_eq!(field(&with, "NoNewPrivs"), "1");
    }
}

#[test]
fn the_score_of_the_oom_killer_is_raised_and_never_lowered() {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let raised = own.max(0) + 50;
    let before = format!("echo {raised} >/proc/self/oom_score_adj");
    let show = "cat /proc/self/oom_score_adj";
    let mut whom = without_rights();
    whom.extend(is_root().then_some(Who::Root));
    for who in whom {
        let higher = raised + 100;
        let bed = Bed::new(who, show, &format!("strict = true\noom-score-adj = {higher}"));
        assert_eq!(stdout(&bed.run_after(&before)), format!("{higher}\n"), "{who:?}");
        let lower = raised - 10;
        let said = stdout(&Bed::new(who, show, &format!("oom-score-adj = {lower}")).run_after(&before));
        assert_eq!(
            said,
            format!(
                "gatevisor: gateway-coder: warning: it runs without `oom-score-adj = {lower}`: the supervisor's own is \
                 higher, and it can be raised only\n{raised}\n"
            )
        );
        let strict = Bed::new(who, show, &format!("strict = true\noom-score-adj = {lower}"));
        assert!(
            strict
                .refused(&before)
                .starts_with(&format!("confining: `oom-score-adj = {lower}`: the supervisor's"))
        );
    }
}

#[test]
fn the_score_of_the_oom_killer_is_raised_above_the_supervisors_own_as_far_as_there_is_room() {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let show = "cat /proc/self/oom_score_adj";
    let mut whom = without_rights();
    whom.extend(is_root().then_some(Who::Root));
    for who in whom {
        for (before, after) in [(own.max(0) + 50, own.max(0) + 250), (900, 1000), (1000, 1000)] {
            let bed = Bed::new(who, show, "strict = true\noom-score-raise = 200");
            let said = stdout(&bed.run_after(&format!("echo {before} >/proc/self/oom_score_adj")));
            assert_eq!(said, format!("{after}\n"), "{who:?}");
        }
    }
}

#[test]
fn capabilities_that_are_not_kept_can_never_be_gained() {
    if !is_root() || !can_drop_capabilities() {
        return;
    }
    let had = capabilities_of_this_test("CapBnd");
    let settings = "strict = true\ncapabilities = [\"NET_BIND_SERVICE\", \"CAP_KILL\"]";
    for who in [Who::Root, Who::Dropping] {
        let status = stdout(&Bed::new(who, "cat /proc/self/status", settings).run());
        let set = |key: &str| u64::from_str_radix(field(&status, key), 16).unwrap();
        let kept = had & (KILL | NET_BIND_SERVICE);
        assert_eq!(set("CapBnd"), kept, "{who:?}");
        let effective = if who == Who::Root { kept } else { 0 };
        assert_eq!((set("CapPrm"), set("CapEff")), (effective, effective), "{who:?}");
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{who:?}");
        let none = stdout(&Bed::new(who, "cat /proc/self/status", "strict = true\ncapabilities = []").run());
        assert_eq!(field(&none, "CapBnd"), "0000000000000000", "{who:?}");
    }
}

#[test]
fn without_the_right_to_drop_capabilities_there_is_a_warning_unless_none_can_be_gained() {
    if !is_root() && capabilities_of_this_test("CapBnd") == 0 {
        return;
    }
    let bed = |settings: &str| Bed::new(Who::Ordinary, "echo ran", &format!("capabilities = []\n{settings}"));
    let remedy = "Operation not permitted; dropping them needs CAP_SETPCAP; set `no-new-privileges` as well, with which \
                  none can be gained (errno 1)\n";
    assert_eq!(
        stdout(&bed("").run()),
        format!("gatevisor: gateway-coder: warning: it runs without `capabilities`: {remedy}ran\n")
    );
    assert_eq!(bed("strict = true").refused(""), format!("confining: `capabilities`: {remedy}"));
    assert_eq!(stdout(&bed("strict = true\nno-new-privileges = true").run()), "ran\n");
}

#[test]
fn the_command_sees_the_variables_that_are_allowed_and_those_that_are_set() {
    let settings =
        "environment-allow = [\"PATH\", \"HERMES_*\"]\n[environment]\nSET = \"${OTHER_TOKEN}\"\nHOME = \"/\"";
    for who in without_rights() {
        let bed = Bed::new(who, "env | grep -v -e ^PWD= -e ^OLDPWD= -e ^_= -e ^SHLVL= | sort", settings);
        let output = bed
            .command("")
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("HERMES_A", "1"), ("HERMES_", "2"), ("HERMES", "3")])
            .envs([("OTHER_TOKEN", "secret"), ("HOME", "/root"), ("LD_PRELOAD_X", "x")])
            .output()
            .unwrap();
        assert_eq!(
            stdout(&output),
            "HERMES_=2\nHERMES_A=1\nHOME=/\nPATH=/usr/bin:/bin\nSET=secret\n",
            "{who:?}"
        );
    }
    let bed = Bed::new(Who::Ordinary, "env | grep -c TOKEN", "environment-allow = []");
    let output = bed.command("").env("PATH", "/nowhere").env("A_TOKEN", "x").output().unwrap();
    assert_eq!(stdout(&output), "0\n", "if PATH is not inherited, the usual directories count");
}

#[test]
fn files_are_written_only_where_landlock_lets_them() {
    if says_that_landlock_is_missing() {
        return;
    }
    let command =
        "echo in >own/in && mv own/in own/moved && rm own/moved && echo null >/dev/null && echo fine
                   echo out >out/file && echo outside
                   true >out/there && echo truncated
                   mkdir own/sub && ln out/there own/sub/there && echo linked
                   cat out/there; grep NoNewPrivs /proc/self/status";
    for who in without_rights() {
        let settings = "strict = true\n[landlock]\nwrite = [\"${SLOT}/own\", \"own\"]";
        let bed = Bed::new(who, command, settings);
        let out = bed.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("there"), "kept\n").unwrap();
        for path in [&out, &out.join("there")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::write(bed.path().join("data/start-error"), "old\n").unwrap();
        let output = bed.run();
        let said = stdout(&output);
        let plain: Vec<&str> =
            said.lines().filter(|line| !line.contains("sh:") && !line.contains("ln:")).collect();
        assert_eq!(plain, ["fine", "kept", "NoNewPrivs:\t1"], "{who:?}: {said}");
        assert!(!out.join("file").exists());
        assert_eq!(bed.slot.start_error(), None, "{who:?}: an old error is forgotten");
    }
}

#[test]
fn files_are_read_and_executed_only_where_landlock_lets_them() {
    if says_that_landlock_is_missing() {
        return;
    }
    let system = "\"/bin\", \"/usr\", \"/lib\"";
    let more = if Path::new("/lib64").exists() { ", \"/lib64\"" } else { "" };
    let command = "cat own/readable; cat hidden; cp /bin/echo own/echo; own/echo executed; echo end";
    for who in without_rights() {
        let settings = format!(
            "strict = true\n[landlock]\nwrite = [\"own\"]\nread = [\"/etc\", \"/proc\"]\nexecute = [{system}{more}]"
        );
        let bed = Bed::new(who, command, &settings);
        for name in ["own/readable", "hidden"] {
            fs::write(bed.path().join(name), format!("{name}\n")).unwrap();
        }
        let said = stdout(&bed.run());
        let plain: Vec<&str> = said.lines().filter(|line| !line.contains("denied")).collect();
        assert_eq!(plain, ["own/readable", "end"], "{who:?}: {said}");
        assert_eq!(said.matches("denied").count(), 2, "{said}");
    }
}

#[test]
fn a_landlock_path_that_is_not_there_is_a_warning_or_refused() {
    if says_that_landlock_is_missing() {
        return;
    }
    for who in without_rights() {
        let said =
            stdout(&Bed::new(who, "echo ran", "[landlock]\nwrite = [\"${SLOT}/own\", \"/nowhere\"]").run());
        assert_eq!(
            said,
            "gatevisor: gateway-coder: warning: it runs without `landlock.write = /nowhere`: No such file or directory; \
             make it before the service starts, or leave it out; nothing is allowed there (errno 2)\nran\n"
        );
        let strict = Bed::new(who, "echo ran", "strict = true\n[landlock]\nwrite = [\"/nowhere\"]");
        assert!(
            strict
                .refused("")
                .starts_with("confining: `landlock.write = /nowhere`: No such file or directory")
        );
    }
}

#[test]
fn why_a_confined_command_does_not_start_is_still_written_down() {
    for settings in ["[landlock]\nwrite = [\"own\"]", "[limits]\nfsize = 0\nnofile = 5"] {
        for who in without_rights() {
            let bed = Bed::new(who, "", settings);
            let run = bed.path().join("run");
            let text = fs::read_to_string(&run)
                .unwrap()
                .replace("[\"sh\", \"-c\", '''''']", "[\"/nowhere/at/all\"]");
            assert!(text.contains("/nowhere"), "{text}");
            fs::write(&run, text).unwrap();
            let output = bed.run();
            assert_eq!(output.status.code(), Some(127), "{who:?} {settings}");
            let left = bed.slot.start_error().unwrap_or_default();
            assert!(
                left.starts_with("executing: `/nowhere/at/all`: No such file"),
                "{who:?} {settings}: {left:?}"
            );
        }
    }
}

#[test]
fn a_service_whose_restrictions_are_refused_is_never_ready() {
    for (settings, exit, told) in [("strict = true\nnice = -20", 111, ""), ("nice = -20", 0, "\n")] {
        let bed = Bed::new(Who::Ordinary, "echo >&3; exec 3>&-", settings);
        fs::write(bed.path().join("notification-fd"), "3\n").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = bed.command("exec 3>&0 0</dev/null");
        assert_eq!(command.stdin(writer).output().unwrap().status.code(), Some(exit));
        // It holds the writer's end.
        drop(command);
        assert_eq!(std::io::read_to_string(reader).unwrap(), told);
    }
}

#[test]
fn the_prober_is_under_no_restriction() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = format!(
        "[limits]\nnofile = 5\nfsize = 0\n[landlock]\nread = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\", \"/etc\"]\n\
         [ready]\nhttp = \"http://127.0.0.1:{port}/\"\ninterval-ms = 20\n"
    );
    let bed = Bed::new(Who::Ordinary, "exec sleep 1000", &settings);
    fs::write(bed.path().join("notification-fd"), "3\n").unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut command = bed.command("exec 3>&0 0</dev/null");
    let mut child = command.stdin(writer).spawn().unwrap();
    drop(command);
    let (mut stream, _) = listener.accept().unwrap();
    // It looks at other processes, and records that the one that listens is not the service's.
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
    let note = || fs::read_to_string(bed.path().join("data/not-ready")).unwrap_or_default();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !note().starts_with(&format!("port {port} is held by ")) {
        assert!(std::time::Instant::now() < deadline, "{}", note());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
