//! Starting processes: of services, and helpers of ours.
//!
//! *Lives here:* what every process is started with, and the processes that are nobody's until they
//! are reaped.
//! *Does not live here:* when a process is started, and what follows from its end.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use gatevisor_core::Leftover;
use gatevisor_sys::descriptor_pool::DescriptorPool;
use gatevisor_sys::spawn::{
    self, EXTRAS, Environment, Extras, GivenBack, Isolation, ProcessSpec, StartFailure, Starting,
};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, file, process};
use gatevisor_wire::log_script::LogScript;
use gatevisor_wire::member::Member;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, files};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Config;
use crate::environments::Environments;
use crate::groups::Groups;
use crate::limits;
use crate::noexec::{self, Program};
use crate::scandir::Scandir;
use crate::script::{self, explain};
use crate::service::{ServiceRole, SupervisedService};
use crate::settings;
use crate::stderr_log::say;

/// Processes that start from low descriptors at a time; the others get a copy of all.
const POOLED_STARTS: usize = 8;
/// Milliseconds from `SIGTERM` to `SIGKILL` for the process of an earlier supervisor whose service
/// directory names none.
const ORPHAN_GRACE_MS: u64 = 10_000;
/// The same for what a process has left behind.
const SURVIVOR_GRACE_MS: u64 = 2000;
/// How long the logger of an earlier supervisor may read on.
const READER_GRACE_MS: u64 = 15_000;
/// What it takes besides to look for processes and to kill those that ignore `SIGTERM`.
const LOOKING_MS: u64 = 6000;

/// Where the output of a process goes; to ours where that is `None`.
pub(crate) type Outputs<'a> = (Option<BorrowedFd<'a>>, Option<BorrowedFd<'a>>);

/// What is known of a `run` before it is started.
#[derive(Debug)]
pub(crate) struct PreparedRun {
    /// The descriptor that it says its readiness into.
    notification: Option<i32>,
    isolation: Isolation,
    /// It becomes the service's user only when it is in the service's control group.
    is_grouped: bool,
    program: Program,
}

/// What processes are started with.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// Where processes are started from; none on an old kernel.
    pool: Option<DescriptorPool>,
    null: OwnedFd,
    environments: Environments,
    /// What tells the scandir from every other one.
    scandir_identity: String,
    /// What we changed for ourselves, as children shall have it.
    given_back: GivenBack,
    /// What is executed to become this very program.
    ourselves: CString,
    /// The path of this program that the interpreter lines of scripts name.
    program: Vec<u8>,
    groups: Groups,
    /// Processes that failed to reach their program, and helpers, until they are reaped.
    unreaped: HashMap<Pid, Starting>,
    /// Those of them that end a control group.
    group_enders: HashSet<Pid>,
}

impl Spawner {
    /// `null` is to be opened before much else is, so that the descriptors of the pool are low.
    pub(crate) fn new(config: &Config, scandir: &Scandir, null: OwnedFd, given_back: GivenBack) -> Self {
        Self {
            pool: DescriptorPool::new(&null, POOLED_STARTS).ok(),
            null,
            environments: Environments::new(config),
            scandir_identity: scandir.lasting_identity(),
            given_back,
            ourselves: ourselves(&config.program),
            program: config.program.as_os_str().as_encoded_bytes().to_vec(),
            groups: Groups::new(scandir),
            unreaped: HashMap::new(),
            group_enders: HashSet::new(),
        }
    }

    /// Returns `/dev/null`.
    pub(crate) fn null(&self) -> &OwnedFd {
        &self.null
    }

    /// Returns whether a process can be started without a copy of every descriptor: a range of the
    /// pool that is taken is free as soon as its child has a table of its own.
    pub(crate) fn has_free_range(&self) -> bool {
        self.pool.as_ref().is_none_or(DescriptorPool::has_free)
    }

    /// Takes in that no process is starting and that none waits.
    pub(crate) fn rest(&self) {
        if let Some(pool) = &self.pool {
            pool.rest();
        }
    }

    /// Returns what a process is started with that runs in `directory` as us and prints where we
    /// do.
    fn spec<'a>(
        &'a self,
        directory: BorrowedFd<'a>,
        program: &'a CStr,
        argv: Vec<CString>,
    ) -> ProcessSpec<'a> {
        ProcessSpec {
            directory,
            program,
            argv,
            environment: self.environments.of(None),
            stdin: self.null.as_fd(),
            stdout: None,
            stderr: None,
            extras: [None; EXTRAS],
            user: None,
            given_back: self.given_back,
            pool: None,
        }
    }

    /// As [`Self::spec`], in the directory of a service and as its user.
    fn spec_of<'a>(
        &'a self,
        service: &'a SupervisedService,
        (program, argv): (&'a CStr, Vec<CString>),
        (stdout, stderr): Outputs<'a>,
    ) -> ProcessSpec<'a> {
        let pool = self.pool.as_ref();
        let user = service.owner.as_deref();
        ProcessSpec { stdout, stderr, user, pool, ..self.spec(service.dir.as_fd(), program, argv) }
    }

    /// Decides with what `run` is started, or returns why it is not.
    pub(crate) fn prepare_run(&mut self, service: &mut SupervisedService) -> Result<PreparedRun, String> {
        let name = service.name();
        script::trusted(service, files::RUN).map_err(|distrust| format!("executing ./run: {distrust}"))?;
        let notification = settings::number(&service.dir, &name, files::NOTIFICATION_FD)
            .and_then(|number| i32::try_from(number).ok());
        let isolation = script::isolation(service, &name, notification)?;
        let program = noexec::program(&service.dir, c"run", vec![service.argument()]);
        let grouped = self.groups.enter(service, isolation, &program, &self.ourselves)?;
        let is_grouped = grouped.is_some();
        Ok(PreparedRun { notification, isolation, is_grouped, program: grouped.unwrap_or(program) })
    }

    /// Starts `run`; also returns what it says its readiness into.
    pub(crate) fn start_run(
        &self,
        service: &SupervisedService,
        run: PreparedRun,
        outputs: Outputs<'_>,
    ) -> Result<(Starting, Option<OwnedFd>), String> {
        let forking = |errno| explain("run", StartFailure { step: spawn::StartStep::Fork, errno });
        let mut pipe = None;
        if run.notification.is_some() {
            pipe = Some(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(forking)?);
        }
        let (program, argv) = run.program;
        let mut spec = self.spec_of(service, (&program, argv), outputs);
        spec.environment = self.environment_of(service);
        if let (ServiceRole::Logger, Some(reader)) = (service.role, &service.pipe) {
            spec.stdin = reader.as_fd();
        }
        let notified = run.notification.zip(pipe.as_ref());
        spec.extras = [notified.map(|(number, (_, writer))| (writer.as_fd(), number)), None, None];
        if run.is_grouped {
            // Ours until the group is made; then it becomes the owner.
            spec.user = None;
        }
        let starting =
            spawn::start_isolated(spec, run.isolation).map_err(|failure| explain("run", failure))?;
        Ok((starting, pipe.map(|(reader, _)| reader)))
    }

    /// Starts `finish` after the death of the process with this pid and outcome.
    pub(crate) fn start_finish(
        &self,
        service: &SupervisedService,
        (pid, how): (Pid, WaitStatus),
        outputs: Outputs<'_>,
    ) -> Result<Starting, StartFailure> {
        let code = how.exit_code().map_or(256, u16::from);
        let signal = how.signal().unwrap_or(0);
        let arguments =
            vec![text(code.to_string()), text(signal.to_string()), service.argument(), text(pid.to_string())];
        let (program, argv) = noexec::program(&service.dir, c"finish", arguments);
        let environment = self.environment_of(service);
        spawn::start(ProcessSpec { environment, ..self.spec_of(service, (&program, argv), outputs) })
    }

    /// Starts what ends processes that were left behind, as the service's user; also returns the
    /// milliseconds that it may take.
    pub(crate) fn start_cleanup(
        &self,
        service: &SupervisedService,
        whose: Leftover,
    ) -> Result<(Starting, u64), StartFailure> {
        let (word, pid, grace_ms) = match (whose, service.role) {
            (Leftover::OfProcess(pid), _) => (c"survivors", Some(pid), SURVIVOR_GRACE_MS),
            (Leftover::OfSupervision(pid), ServiceRole::Main) => {
                let own = settings::timeout_kill_ms(&service.dir, &service.name());
                (c"orphan", pid, if own == 0 { ORPHAN_GRACE_MS } else { own })
            }
            // It ends by itself when what it reads from has ended.
            (Leftover::OfSupervision(pid), ServiceRole::Logger) => (c"reader", pid, READER_GRACE_MS),
        };
        let since = service.orphan.map_or(0, |orphan| orphan.since_unix_ms());
        let mut argv = vec![
            c"gatevisor".to_owned(),
            c"end-survivors".to_owned(),
            text(self.scandir_identity.clone()),
            service.argument(),
            word.to_owned(),
            text(pid.map_or(0, Pid::get).to_string()),
            text(since.to_string()),
            text(grace_ms.to_string()),
        ];
        argv.extend(service.group.clone());
        // Its user can look into it, so a process of another user gets no output of ours.
        let to_log = service.role == ServiceRole::Main && (service.owner.is_some() || word == c"survivors");
        let log = service.pipe.as_ref().filter(|_| to_log).map(AsFd::as_fd);
        let environment = self.environments.of(service.owner.as_deref());
        let spec = self.spec_of(service, (c"/proc/self/exe", argv), (log, log));
        Ok((spawn::start(ProcessSpec { environment, ..spec })?, grace_ms.saturating_add(LOOKING_MS)))
    }

    /// Starts a log daemon for the services of a user, with these descriptors.
    pub(crate) fn start_log_daemon(
        &self,
        scandir: BorrowedFd<'_>,
        owner: Option<&User>,
        extras: Extras<'_>,
    ) -> Result<Starting, Errno> {
        let mut argv = vec![c"gatevisor".to_owned(), c"logd".to_owned()];
        argv.extend(owner.map(|user| text(user.uid.to_string())));
        // It becomes the owner by itself, so that the owner cannot look into it. It needs as many
        // files as we do.
        let given_back = GivenBack { open_files: None, ..self.given_back };
        let environment = self.environments.of(owner);
        let spec = self.spec(scandir, &self.ourselves, argv);
        spawn::start(ProcessSpec { environment, extras, given_back, ..spec }).map_err(|failure| failure.errno)
    }

    /// Starts a script of the scandir as a child that nobody waits for.
    pub(crate) fn start_script(&mut self, scandir: BorrowedFd<'_>, script: &CStr) -> Result<(), Errno> {
        let started = spawn::start(self.spec(scandir, script, vec![script.to_owned()]));
        let starting = started.map_err(|failure| failure.errno)?;
        self.disown(starting);
        Ok(())
    }

    /// Has a service's group ended, with what the service left in it, by a child that nobody waits
    /// for.
    pub(crate) fn end_group(&mut self, scandir: BorrowedFd<'_>, group: CString) {
        let argv = vec![c"gatevisor".to_owned(), c"end-group".to_owned(), group];
        match spawn::start(self.spec(scandir, &self.ourselves, argv)) {
            Ok(starting) => {
                let pid = self.disown(starting);
                self.group_enders.extend(pid);
            }
            Err(failure) => say!("warning: a control group is left behind: {}", failure.errno),
        }
    }

    /// Keeps a process that is nobody's until it is reaped: it may still run on memory of ours for
    /// an instant.
    pub(crate) fn disown(&mut self, starting: Starting) -> Option<Pid> {
        let pid = Pid::new(starting.pid())?;
        self.unreaped.insert(pid, starting);
        Some(pid)
    }

    /// Takes in that a process was reaped; returns whether it was nobody's.
    pub(crate) fn reaped(&mut self, pid: Pid) -> bool {
        self.group_enders.remove(&pid);
        self.unreaped.remove(&pid).is_some()
    }

    /// Returns whether this is a process that is nobody's, such as a script.
    pub(crate) fn is_unreaped(&self, pid: Pid) -> bool {
        self.unreaped.contains_key(&pid)
    }

    /// Returns whether this process ends a control group.
    pub(crate) fn ends_group(&self, pid: Pid) -> bool {
        self.group_enders.contains(&pid)
    }

    /// Returns whether the log daemon does the work of this `log/run`: its interpreter is this very
    /// program, or s6-log with directives that the daemon can express.
    pub(crate) fn is_logged_by_daemon(&self, log: impl AsFd) -> bool {
        let mut head = [0; script::SHEBANG_BYTES];
        file::read_small(log, files::RUN, &mut head).is_ok_and(|head| {
            LogScript::from_file(head).is_some() || script::begins_as(head, &self.program, "log")
        })
    }

    /// Returns whether the interpreter of a script is this very program, called with `verb`.
    pub(crate) fn is_ours(&self, dir: impl AsFd, script: &str, verb: &str) -> bool {
        script::is_run_by(dir, script, &self.program, verb)
    }

    /// Gives this process back what we changed for ourselves, because it becomes another program;
    /// returns the environment of that.
    pub(crate) fn environment_of_next_program(&self) -> Rc<Environment> {
        limits::give_back(&self.given_back);
        self.environments.of(None)
    }

    /// Becomes the container's command, in a child; returns only the reason why it could not.
    pub(crate) fn become_command(&self, command: &[CString]) -> Errno {
        limits::give_back(&self.given_back);
        let program = command.first().cloned().unwrap_or_default();
        process::exec(&program, command, self.environments.of_command().strings())
    }

    /// Returns the environment of a process of the service.
    fn environment_of(&self, service: &SupervisedService) -> Rc<Environment> {
        let name = service.argument();
        let member = Member {
            scandir: self.scandir_identity.as_bytes(),
            supervisor: rustix::process::getpid().as_raw_nonzero().get(),
            name: name.as_bytes(),
        };
        let assignment = CString::new(member.assignment()).unwrap_or_default();
        Rc::new(Environment::with(&self.environments.of(service.owner.as_deref()), assignment))
    }
}

fn text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Returns what is executed to become this very program: whatever its path leads to by now, where
/// there is a `/proc`.
fn ourselves(program: &Path) -> CString {
    const SELF: &CStr = c"/proc/self/exe";
    let by_path = || CString::new(program.as_os_str().as_encoded_bytes()).unwrap_or_default();
    rustix::fs::readlink(SELF, Vec::new()).map_or_else(|_| by_path(), |_| SELF.to_owned())
}
