//! The beds in which attacks happen: a supervisor, the attacker's scandir, two bystanders, and
//! files that only the supervisor's user may touch.
//!
//! *Lives here:* the beds, and carrying out an attack in one. *Does not live here:* the attacks,
//! and what must hold after them (`check.py`).
//!
//! Scripts of attacks have these variables:
//!
//! | name | what |
//! |---|---|
//! | `S` | the scandir, which belongs to the attacker |
//! | `V` | files of the supervisor's user: `secret`, `readable`, `directory/`, `closed/`, `service/run`, `program`, `fifo` |
//! | `T` | a directory of the attacker |
//! | `H` | a home of an agent that belongs to the attacker |
//! | `N`, `D` | the name of this attack's slot, and its path |
//! | `P` | the process of the supervisor |
//! | `G` | this program |
//! | `SERVED` | `yes` where the supervisor serves the attacker's slots, `no` where it must refuse them |
//!
//! and the functions of [`PRELUDE`].

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::RwLock;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::attack::Attack;
use crate::cell::{self, Cell};
use crate::engine::{self, Container};
use crate::layout::Layout;
use crate::support::{self, World, need_root};

pub const ATTACKER: u32 = 10_000;
const OTHER: u32 = 10_001;
const SUPERVISOR: u32 = 10_002;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatevisor");
/// The programs of attacks and checks, which are in one directory of each bed.
const PROGRAMS: &[(&str, &str)] = &[
    ("attacker.py", include_str!("attacker.py")),
    ("furniture.py", include_str!("furniture.py")),
    ("terminals.py", include_str!("terminals.py")),
    ("check.py", include_str!("check.py")),
];

/// The time limit in seconds of one script of an attack.
const BOUND_S: &str = "100";

/// The beginning of all scripts.
const PRELUDE: &str = r#"
set -eu
umask 022
export STOP="$T/stop"
# One of s6's tools; a tool of the supervisor.
s6() { "$G" s6 "$@"; }
py() { python3 "$A" "$@"; }
# A program that tells whom it runs as.
payload() {
    printf '#!/bin/sh\nid -u >> %s/ran 2>/dev/null\ntest $(id -u) != %s || echo "$0" >> %s.pwned\nexec sleep 3600\n' \
        "$T" "$AUTHORITY" "$STATE" > "$1"
    chmod 755 "$1"
}
# Fails where a command succeeds, which `!` alone does not.
not() { ! "$@" || { echo "it should have failed: $*"; exit 9; }; }
# Begins the slot, under a dotted name, and goes there.
new() { mkdir -p "$S/.$N"; cd "$S/.$N"; test -e run || payload run; }
# Gives the slot its name, and waits until it is supervised or refused.
place() { cd "$S"; mv "$S/.$N" "$D"; py taken "$D"; }
# Tells the slot something, if anybody serves it.
tell() { s6 s6-svc "$@" "$D" || test "$SERVED" = no; }
up() { s6 s6-svwait -t 30000 -u "$D" || test "$SERVED" = no; }
# The usual life: up, killed, down, up.
live() { up; tell -k; tell -wd -T 20000 -d; tell -u; }
# As above, of a slot that may be refused.
try() { s6 s6-svc -k "$D" 2>/dev/null || :; s6 s6-svc -d "$D" 2>/dev/null || :; s6 s6-svc -u "$D" 2>/dev/null || :; }
# Asks for a scan and waits for nothing.
rescan() { printf a > "$S/.s6-svscan/control"; }
# For what root plants in a slot of the attacker.
planted() { mkdir -p "$S/.$N/$1"; chown -R "$ATTACKER:$ATTACKER" "$S/.$N"; cd "$S/.$N"; }
"#;

/// Who runs a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    /// The user that the supervisor runs as.
    Authority,
    Attacker,
}

enum Place {
    Local(World),
    Container(Container),
    Cell(RwLock<Cell>),
}

pub struct Bed {
    place: Place,
    authority: u32,
    /// Who acts after an attack.
    operator: Who,
    /// The image whose paths the scripts use.
    layout: Layout,
    /// Exports of those variables above that are the same for all attacks.
    variables: String,
}

/// Returns a supervisor that is root.
pub fn local_root() -> Bed {
    local_in(World::with(&["--grace-ms", "5000"]), 0).prepared_with("prepare")
}

/// Returns `gatevisor up` of an ordinary user who is not the attacker.
pub fn local_user() -> Bed {
    let mut world = World::with(&["--grace", "5", "--quiet", "--home"]);
    let home = world.root().join("own");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(SUPERVISOR), Some(SUPERVISOR)).unwrap();
    world = world
        .option(home)
        .option("--scandir")
        .supervised_by(&[PROGRAM, "up"])
        .prelude("exec setpriv --reuid=10002 --regid=10002 --clear-groups --inh-caps=-all \"$0\" \"$@\"");
    local_in(world, SUPERVISOR).prepared_with("prepare")
}

/// Returns a genuine s6-svscan that is root, for comparison.
pub fn genuine_s6() -> Bed {
    local_in(World::with(&[]).supervised_by(&["s6-svscan"]), 0).prepared_with("victims")
}

fn local_in(mut world: World, authority: u32) -> Bed {
    need_root();
    let (scandir, root) = (world.scandir(), world.root().to_owned());
    let scratch = root.join("attacker");
    let home = root.join("home");
    for path in [&scratch, &home] {
        fs::create_dir(path).unwrap();
        chown(path, Some(ATTACKER), Some(ATTACKER)).unwrap();
    }
    // As in a container, the scandir is the agent's, and `.s6-svscan` is the supervisor's user's.
    let svscan = scandir.join(".s6-svscan");
    let control = svscan.join("control");
    mknodat(CWD, &control, FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    chown(&svscan, Some(authority), Some(authority)).unwrap();
    chown(&control, Some(authority), Some(ATTACKER)).unwrap();
    fs::set_permissions(&control, fs::Permissions::from_mode(0o620)).unwrap();
    chown(&scandir, Some(ATTACKER), Some(ATTACKER)).unwrap();
    for (name, text) in PROGRAMS {
        fs::write(root.join(name), text).unwrap();
    }
    let state = root.join("state");
    fs::create_dir(&state).unwrap();
    // Programs that run as the supervisor's user record that here.
    chown(&state, Some(authority), Some(authority)).unwrap();
    world.start();
    let variables = variables(&[
        ("S", &scandir.to_string_lossy()),
        ("V", &root.join("victims").to_string_lossy()),
        ("T", &scratch.to_string_lossy()),
        ("H", &home.to_string_lossy()),
        ("A", &root.join("attacker.py").to_string_lossy()),
        ("CHECK", &root.join("check.py").to_string_lossy()),
        ("STATE", &state.join("state").to_string_lossy()),
        ("G", PROGRAM),
        ("P", &world.pid().to_string()),
        ("GATEVISOR_TEST_WORLD", &root.to_string_lossy()),
        // The system's directories come first, not the scripts of a version manager.
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
    ]);
    Bed { place: Place::Local(world), authority, operator: Who::Authority, layout: Layout::Hermes, variables }
}

/// Returns PID 1 of a container that was started with these options.
pub fn container(options: &str) -> Bed {
    // The supervisor forwards signals without a script to the command, whose end would end the
    // container.
    let command = "trap '' HUP USR1 USR2 WINCH ALRM; echo 'the command runs'; exec sleep infinity";
    let container = engine::container().with(options).started_as(&["/bin/sh", "-c", command]);
    container.says("the command runs");
    of_a_container(Place::Container(container), Layout::Hermes)
}

/// Returns PID 1 of a new container without an engine.
pub fn cell(start: cell::Start) -> Result<Bed, String> {
    let layout = start.layout;
    Cell::started(start).map(|cell| of_a_container(Place::Cell(RwLock::new(cell)), layout))
}

fn of_a_container(place: Place, layout: Layout) -> Bed {
    let words = [
        ("S", "/run/service"),
        ("V", "/srv/bed/victims"),
        ("T", "/srv/attacker"),
        ("H", layout.home()),
        ("A", "/srv/bed/attacker.py"),
        ("CHECK", "/srv/bed/check.py"),
        ("STATE", "/srv/bed/state/state"),
        ("G", "/usr/local/bin/gatevisor"),
        ("P", "1"),
        ("HEALTH", &cell::health()),
    ];
    let bed = Bed { place, authority: 0, operator: Who::Authority, layout, variables: variables(&words) };
    let mut make = format!("mkdir -p /srv/bed/state; install -d -o {ATTACKER} -g {ATTACKER} /srv/attacker\n");
    for (name, text) in PROGRAMS {
        make += &["cat > /srv/bed/", name, " <<'THE END'\n", text, "\nTHE END\n"].concat();
    }
    bed.run(Who::Root, "", &make).expect("the bed can be made");
    bed.prepared_with("prepare")
}

fn variables(pairs: &[(&str, &str)]) -> String {
    let export = |(name, value): &(&str, &str)| {
        assert!(!value.contains('\''), "{name} can be quoted");
        format!("export {name}='{value}'\n")
    };
    pairs.iter().map(export).collect()
}

impl Bed {
    fn prepared_with(mut self, what: &str) -> Self {
        let same = if self.authority == 0 { ATTACKER } else { self.authority };
        let other = if self.authority == 0 { OTHER } else { self.authority };
        self.variables += &variables(&[
            ("AUTHORITY", &self.authority.to_string()),
            ("ATTACKER", &ATTACKER.to_string()),
            ("OTHER", &other.to_string()),
            ("SAME", &same.to_string()),
            ("SERVED", if self.authority == 0 { "yes" } else { "no" }),
        ]);
        let words = format!("python3 \"$CHECK\" {what}");
        self.run(Who::Root, "", &words).expect("the bed can be prepared");
        self
    }

    /// Lets root do what the supervisor's user would do after an attack.
    pub const fn operated_by_root(mut self) -> Self {
        self.operator = Who::Root;
        self
    }

    /// Carries out all attacks that are possible here, and fails with a list of what they broke.
    pub fn suffers(&self, attacks: &[Attack]) {
        let mut fallen = Vec::new();
        for attack in attacks.iter().filter(|attack| self.allows(attack)) {
            #[expect(
                clippy::print_stderr,
                reason = "which attack it was that never ended is seen in no other way"
            )]
            {
                eprintln!("{}", attack.name);
            }
            let before = fallen.len();
            fallen.extend(self.falls_to(attack));
            if fallen.len() > before && !self.is_alive() {
                fallen.push("the supervisor is gone, and with it the rest of the group".into());
                break;
            }
        }
        assert!(fallen.is_empty(), "{}\nthe supervisor said: {}", fallen.join("\n"), self.said());
    }

    /// Carries out one attack and returns what it broke.
    fn falls_to(&self, attack: &Attack) -> Vec<String> {
        let mut fallen = Vec::new();
        if let Err(said) = self.carry_out(attack) {
            fallen.push(format!("{}: it could not be carried out: {said}", attack.name));
        }
        if let Err(said) = self.run(Who::Root, attack.name, "python3 \"$CHECK\" after") {
            fallen.push(format!("{}: {said}", attack.name));
        }
        fallen
    }

    /// Lets the attacker do something, and waits until a check of root shows that it succeeded.
    pub fn loses(&self, does: &str, proof: &str) {
        let lost = self
            .run(Who::Attacker, "slot", does)
            .and_then(|()| self.run(Who::Root, "slot", &format!("py until 60 {proof}")));
        assert_eq!(lost, Ok(()), "it held; the supervisor said: {}", self.said());
    }

    /// Carries out one attack, stops and starts the container, and returns which checks fail then.
    pub fn falls_at_the_next_boot(&self, attack: &Attack) -> Vec<String> {
        let mut fallen = Vec::new();
        if let Err(said) = self.carry_out(attack) {
            fallen.push(format!("{}: it could not be carried out: {said}", attack.name));
        }
        if let Err(said) = self.restart_during(attack.meanwhile) {
            return vec![format!("{}: {said}", attack.name)];
        }
        fallen.extend(
            self.forgeries().into_iter().map(|line| format!("{}: its output holds {line:?}", attack.name)),
        );
        for words in ["python3 \"$CHECK\" restarted", attack.holds] {
            if let Err(said) = self.run(Who::Root, attack.name, words) {
                fallen.push(format!("{}: {said}\nthe container said: {}", attack.name, self.said()));
            }
        }
        if let Place::Cell(cell) = &self.place {
            fallen.extend(cell.write().unwrap().stop().err().map(|said| format!("{}: {said}", attack.name)));
        }
        fallen
    }

    /// Starts the container again, while the attacker goes on in another container that has the
    /// volume.
    fn restart_during(&self, words: &str) -> Result<(), String> {
        let Place::Cell(cell) = &self.place else { return self.restart() };
        if words.is_empty() {
            return self.restart();
        }
        let volume = cell.read().unwrap().directory().join("volume");
        let stop = volume.join("stop-the-race");
        let script = format!(
            "A='{}' STOP='{}' H='{}'\nexport STOP\npy() {{ python3 \"$A\" \"$@\"; }}\ncd \"$H\"\n{words}\n",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hostile/attacker.py"),
            stop.display(),
            volume.display()
        );
        std::thread::scope(|scope| {
            let attacker = scope.spawn(|| local_run(ATTACKER, &script));
            let restarted = self.restart();
            fs::write(&stop, "").unwrap();
            let (code, said) = attacker.join().expect("it does not panic");
            fs::remove_file(&stop).unwrap();
            assert_eq!(code, 0, "the race could not be carried out: {said}");
            restarted
        })
    }

    /// Returns a line of the container's output that controls a terminal, or that only the
    /// supervisor may print.
    fn forgeries(&self) -> Option<String> {
        let said = match &self.place {
            Place::Local(world) => world.said(),
            Place::Container(container) => container.said(),
            Place::Cell(cell) => cell.read().unwrap().said(),
        };
        let drives = |line: &str| line.chars().any(|c| c.is_control() && c != '\t');
        let is_forged = |line: &str| {
            ["gatevisor", "init", "reconcile"].iter().any(|name| line.starts_with(&format!("{name}: FORGED")))
        };
        said.lines().find(|line| drives(line) || is_forged(line)).map(str::to_owned)
    }

    fn restart(&self) -> Result<(), String> {
        match &self.place {
            Place::Local(_) => panic!("only a container is started again"),
            Place::Container(container) => container.restart(),
            Place::Cell(cell) => {
                let mut cell = cell.write().unwrap();
                cell.stop()?;
                cell.boot()?;
            }
        }
        Ok(())
    }

    fn allows(&self, attack: &Attack) -> bool {
        (self.authority == 0 || self.operator == Who::Root || !attack.needs_root)
            && (!matches!(self.place, Place::Local(_)) || !attack.needs_container)
    }

    fn is_alive(&self) -> bool {
        self.run(Who::Root, "", "kill -0 \"$P\"").is_ok()
    }

    fn said(&self) -> String {
        let said = match &self.place {
            Place::Local(world) => world.said(),
            Place::Container(container) => container.said(),
            Place::Cell(cell) => cell.read().unwrap().said(),
        };
        let from = said.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
        said.get(from..).unwrap_or_default().to_owned()
    }

    fn carry_out(&self, attack: &Attack) -> Result<(), String> {
        self.run(Who::Root, attack.name, attack.planted)?;
        if !attack.is_race {
            self.run(Who::Attacker, attack.name, attack.does)?;
            return self.run(self.operator, attack.name, attack.then);
        }
        std::thread::scope(|scope| {
            let attacker = scope.spawn(|| self.run(Who::Attacker, attack.name, attack.does));
            let meanwhile = self.run(self.operator, attack.name, attack.then);
            let told = self.run(Who::Root, attack.name, "touch \"$T/stop\"");
            attacker.join().expect("it does not panic").and(meanwhile).and(told)
        })
    }

    /// Runs a script of an attack. If it fails, its output is the error.
    fn run(&self, who: Who, name: &str, words: &str) -> Result<(), String> {
        if words.is_empty() {
            return Ok(());
        }
        let words = self.layout.spoken(words);
        let script = format!("{}\nexport N='{name}' D=\"$S/{name}\"\n{PRELUDE}\n{words}\n", self.variables);
        let user = match who {
            Who::Root => 0,
            Who::Authority => self.authority,
            Who::Attacker => ATTACKER,
        };
        let (code, said) = match &self.place {
            Place::Local(_) => local_run(user, &script),
            Place::Container(container) => {
                let user = format!("{user}:{user}");
                let answer = container
                    .exec_as(&user, &["/usr/bin/timeout", "-k", "5", BOUND_S, "/bin/bash", "-c", &script]);
                (answer.code, answer.out + &answer.err)
            }
            Place::Cell(cell) => cell
                .read()
                .unwrap()
                .exec_as(user, &["/usr/bin/timeout", "-k", "5", BOUND_S, "/bin/bash", "-c", &script]),
        };
        match code {
            0 => Ok(()),
            124 | 137 => Err(format!("{who:?}'s part was not over after {BOUND_S} s; it said: {said}")),
            code => Err(format!("{who:?}'s part ended with {code}: {said}")),
        }
    }
}

fn local_run(user: u32, script: &str) -> (i32, String) {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
    command.args(["timeout", "-k", "5", BOUND_S, "bash", "-c", script]).current_dir(Path::new("/"));
    command.env_remove("STOP");
    let output = support::output(&mut command).expect("`setpriv` is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}
