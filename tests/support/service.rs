//! Services: making one, placing it in the scandir, sending commands, receiving events.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use gatevisor_client::{ServiceDir, Subscription};
use gatevisor_wire::files;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use rustix::fs::OFlags;
use rustix::fs::inotify::WatchFlags;

use super::{World, executable, script, soon, waiting};

/// The command of a service that only has to run.
pub const STAY: &str = "exec sleep 3600";

/// Writes each signal that it receives into the file `received`, and says when it is ready.
///
/// It survives TERM, so a test that leaves such a service must end it with `dk`. After a `k` alone,
/// the next process may be there before the supervisor is told to stop.
const NOTES_SIGNALS: &str = "
for s in HUP INT QUIT ABRT USR1 USR2 ALRM TERM CONT WINCH; do trap \"echo $s >> received\" $s; done
sleep 3600 &
: > listening
while :; do wait $!; done";

/// A service directory that is being made, under a name with a leading dot.
pub struct Builder<'a> {
    world: &'a World,
    name: OsString,
    path: PathBuf,
    owner: Option<u32>,
    logged: bool,
    gates: HashMap<&'static str, File>,
}

fn make_service_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    let event = path.join(files::EVENT);
    fs::create_dir(&event).unwrap();
    fs::set_permissions(&event, fs::Permissions::from_mode(files::EVENT_MODE)).unwrap();
}

impl<'a> Builder<'a> {
    pub(super) fn new(world: &'a World, name: &OsStr) -> Self {
        let mut dotted = OsString::from(".");
        dotted.push(name);
        let path = world.scandir().join(dotted);
        make_service_directory(&path);
        Self { world, name: name.to_owned(), path, owner: None, logged: false, gates: HashMap::new() }
    }

    /// Returns where it is being made.
    pub fn path(&self, entry: &str) -> PathBuf {
        self.path.join(entry)
    }

    /// Gives it a `run` that is a shell script.
    pub fn run(self, body: &str) -> Self {
        script(&self.path(files::RUN), body);
        self
    }

    /// Gives it a `run` that does nothing.
    pub fn stays(self) -> Self {
        self.run(STAY)
    }

    /// Gives it a `run` that writes down each signal in `received`, places it, and returns it when
    /// its traps are set.
    pub fn notes_signals(self) -> Service {
        let mut service = self.run(NOTES_SIGNALS).place();
        service.receive("su");
        service.until_file("listening", "the traps", |_| true);
        service
    }

    /// Gives it a `run` with any content.
    pub fn executable(self, entry: &str, content: &str) -> Self {
        executable(&self.path(entry), content);
        self
    }

    /// Gives it a `finish` that is a shell script.
    pub fn finish(self, body: &str) -> Self {
        script(&self.path(files::FINISH), body);
        self
    }

    /// Gives it a logger whose `run` is a shell script.
    pub fn log(mut self, body: &str) -> Self {
        make_service_directory(&self.path(files::LOG));
        script(&self.path("log/run"), body);
        self.logged = true;
        self
    }

    /// Gives it a file; directories above it are made.
    pub fn file(self, entry: &str, content: &str) -> Self {
        let path = self.path(entry);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Gives it a FIFO that the test holds open. A script waits on it (`read line < go`) until the
    /// test calls `pass`.
    pub fn gate(mut self, entry: &'static str) -> Self {
        let fifo = waiting::fifo(&self.path(entry));
        fs::set_permissions(self.path(entry), fs::Permissions::from_mode(0o666)).unwrap();
        self.gates.insert(entry, fifo);
        self
    }

    pub fn down(self) -> Self {
        self.file(files::DOWN, "")
    }

    /// Sets a number of the restart policy.
    pub fn data(self, entry: &str, number: u32) -> Self {
        let entry = format!("data/{entry}");
        self.file(&entry, &format!("{number}\n"))
    }

    /// Gives everything in it to a user and the group of the same number.
    pub fn owned_by(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Does something else to the directory.
    pub fn prepare(self, change: impl FnOnce(&Path)) -> Self {
        change(&self.path);
        self
    }

    /// Puts it into the scandir, complete, and asks a running supervisor to scan.
    ///
    /// The subscribers are there before any supervisor knows the service, so the test receives
    /// every event.
    pub fn place(self) -> Service {
        self.place_after(|_| ())
    }

    /// Puts it into the scandir without its `event`, so the supervisor makes one, and it has no
    /// subscriber.
    pub fn place_without_subscriber(self) -> Service {
        self.place_after(|dir| fs::remove_dir_all(dir.join(files::EVENT)).unwrap())
    }

    /// As `place`, with a last change to the directory after it has its owner and its subscribers.
    pub fn place_after(self, change: impl FnOnce(&Path)) -> Service {
        if let Some(uid) = self.owner {
            give(&self.path, uid);
        }
        let at = self.world.scandir().join(&self.name);
        let listener = |entry: &str| {
            Subscription::subscribe(&ServiceDir::new(self.path.join(entry)))
                .expect("events can be listened to")
        };
        let mut logger_name = self.name.clone();
        logger_name.push("/log");
        let said = self.world.stderr_path();
        let logger = self
            .logged
            .then(|| Box::new(Service::new(&logger_name, at.join(files::LOG), listener(files::LOG), &said)));
        let mut service = Service::new(&self.name, at.clone(), listener(""), &said);
        service.logger = logger;
        service.gates = self.gates;
        change(&self.path);
        fs::rename(&self.path, &at).unwrap();
        if self.world.is_running() {
            self.world.rescan();
        }
        service
    }
}

/// Gives a directory and everything below it to a user.
pub fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        // The change of owner takes the set-group-id bit away.
        if path.ends_with(files::EVENT) {
            fs::set_permissions(path, fs::Permissions::from_mode(files::EVENT_MODE)).unwrap();
        }
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

/// Places a service that a test leaves alone, beside the services that it works on. The service is
/// up.
pub fn neighbour(world: &World) -> Service {
    let mut service = world.service("neighbour").stays().place();
    service.receive("su");
    service
}

/// Checks that its supervisor still obeys commands, and starts it again.
pub fn still_served(service: &mut Service) {
    service.send("k");
    service.receive("dDu");
}

/// A service in a scandir, and its subscriber.
pub struct Service {
    name: OsString,
    pub dir: ServiceDir,
    listener: Subscription,
    /// All events received so far, for messages.
    received: String,
    said: PathBuf,
    gates: HashMap<&'static str, File>,
    pub logger: Option<Box<Service>>,
}

impl Service {
    fn new(name: &OsStr, path: PathBuf, listener: Subscription, said: &Path) -> Self {
        Self {
            name: name.to_owned(),
            dir: ServiceDir::new(path),
            listener,
            received: String::new(),
            said: said.to_owned(),
            gates: HashMap::new(),
            logger: None,
        }
    }

    pub fn path(&self, entry: &str) -> PathBuf {
        self.dir.path().join(entry)
    }

    pub fn logger(&mut self) -> &mut Self {
        self.logger.as_mut().expect("it was made with a logger")
    }

    /// Returns everything that is known about it, for a message.
    pub fn known_state(&self) -> String {
        let said = fs::read(&self.said).unwrap_or_default();
        format!(
            "{} received `{}`; status {:?}; policy {:?}; the supervisor said: {}",
            self.name.display(),
            self.received,
            self.dir.status(),
            self.dir.policy(),
            String::from_utf8_lossy(&said)
        )
    }

    /// Waits for the next event.
    pub fn next(&mut self) -> char {
        match self.listener.next(Some(soon())).expect("the listener can be read") {
            Some(event) => {
                let event = char::from(event.byte());
                self.received.push(event);
                event
            }
            None => panic!("no event came; {}", self.known_state()),
        }
    }

    /// Waits for exactly these events.
    pub fn receive(&mut self, events: &str) {
        let mut got = String::new();
        for expected in events.chars() {
            let event = self.next();
            got.push(event);
            assert_eq!(event, expected, "expected `{events}`, got `{got}`; {}", self.known_state());
        }
    }

    /// Waits for this event, whatever comes before it.
    pub fn receive_until(&mut self, last: char) {
        while self.next() != last {}
    }

    /// Returns the events that have arrived since the last wait.
    pub fn further_events(&mut self) -> String {
        let mut events = String::new();
        while let Some(event) = self.listener.try_next().expect("the listener can be read") {
            events.push(char::from(event.byte()));
        }
        self.received.push_str(&events);
        events
    }

    /// Writes bytes to the control FIFO, in one piece.
    pub fn send(&self, bytes: &str) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("cannot send `{bytes}`: {error}; {}", self.known_state()));
    }

    pub fn try_send(&self, bytes: &str) -> std::io::Result<()> {
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        fs::OpenOptions::new()
            .write(true)
            .custom_flags(nonblock)
            .open(self.dir.control_path())?
            .write_all(bytes.as_bytes())
    }

    /// Sends bytes, and waits until the status has been written anew because of them.
    ///
    /// Only for commands that change or confirm the status, while nothing else happens to the
    /// service.
    pub fn send_and_see(&self, bytes: &str) -> Status {
        let watch = waiting::watch(&self.path(files::SUPERVISE), WatchFlags::MOVED_TO);
        self.send(bytes);
        let deadline = soon();
        loop {
            assert!(waiting::readable(&watch, deadline), "no status after `{bytes}`; {}", self.known_state());
            if waiting::drain(&watch).iter().any(|name| name == "status") {
                return self.status();
            }
        }
    }

    /// Lets a script that waits at a gate go on, with a word to read.
    pub fn pass(&self, gate: &str, word: &str) {
        let mut fifo = self.gates.get(gate).unwrap_or_else(|| panic!("there is no gate `{gate}`"));
        fifo.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    pub fn status(&self) -> Status {
        self.dir.status().unwrap_or_else(|error| panic!("no status: {error}; {}", self.known_state()))
    }

    /// Returns the process that runs now.
    pub fn pid(&self) -> i32 {
        self.status().pid.unwrap_or_else(|| panic!("no process; {}", self.known_state())).get()
    }

    /// Returns what the policy file says, or what its absence means.
    pub fn policy(&self) -> PublishedPolicy {
        self.dir.policy().unwrap_or_default()
    }

    /// Waits until the policy file satisfies the condition.
    pub fn until_policy(&self, what: &str, expected: impl Fn(&PublishedPolicy) -> bool) -> PublishedPolicy {
        waiting::until(&self.path(files::SUPERVISE), what, || self.dir.policy().filter(&expected))
    }

    /// Waits until the status file satisfies the condition.
    pub fn until_status(&self, what: &str, expected: impl Fn(&Status) -> bool) -> Status {
        waiting::until(&self.path(files::SUPERVISE), what, || self.dir.status().ok().filter(&expected))
    }

    /// Waits until a file that the service writes satisfies the condition, and returns its text.
    pub fn until_file(&self, entry: &str, what: &str, expected: impl Fn(&str) -> bool) -> String {
        let path = self.path(entry);
        waiting::until(path.parent().unwrap(), what, || {
            let text = String::from_utf8_lossy(&fs::read(&path).ok()?).into_owned();
            expected(&text).then_some(text)
        })
    }

    /// Waits until a file that the service writes has this number of complete lines, and returns
    /// them.
    pub fn until_lines(&self, entry: &str, count: usize) -> Vec<String> {
        let enough = |text: &str| text.bytes().filter(|&byte| byte == b'\n').count() >= count;
        self.until_file(entry, "enough lines", enough).lines().map(str::to_owned).collect()
    }

    /// Replaces its `run`.
    pub fn rewrite_run(&self, body: &str) {
        script(&self.path(files::RUN), body);
    }

    /// Sets a number of the restart policy.
    pub fn set(&self, entry: &str, number: u32) {
        fs::create_dir_all(self.path(files::DATA)).unwrap();
        fs::write(self.path(files::DATA).join(entry), format!("{number}\n")).unwrap();
    }

    /// Renames it to a name that the supervisor ignores.
    pub fn hide(&self) -> PathBuf {
        static HIDDEN: AtomicU32 = AtomicU32::new(0);
        let number = HIDDEN.fetch_add(1, Ordering::Relaxed);
        let hidden = self.dir.path().with_file_name(format!(".gone-{number}"));
        fs::rename(self.dir.path(), &hidden).unwrap();
        hidden
    }
}
