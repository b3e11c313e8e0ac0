//! Starts processes: those of services, and our helpers.
//!
//! *Lives here:* the settings of every started process, and the processes that belong to nothing
//! until they are reaped.
//! *Does not live here:* when a process is started, and the consequences of its end.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use gatevisor_core::Leftover;
use gatevisor_core::entry::ServiceRole;
use gatevisor_core::launch;
use gatevisor_core::shutdown::ChildKind;
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
use crate::service::SupervisedService;
use crate::service_scripts::{self, explain};
use crate::settings;
use crate::stderr_log::say;

/// The most processes that start from pooled descriptors at the same time. The others get a copy of
/// all descriptors.
const POOLED_STARTS: usize = 8;
/// The time in milliseconds for asking about a handoff: a little longer than its command may take.
const QUESTION_MS: u64 = 35_000;

/// The outputs of a process; `None` stands for our own.
pub(crate) type Outputs<'a> = (Option<BorrowedFd<'a>>, Option<BorrowedFd<'a>>);

/// The facts about a `run` that is about to be started.
#[derive(Debug)]
pub(crate) struct PreparedRun {
    /// The descriptor on which it announces its readiness.
    notification: Option<i32>,
    isolation: Isolation,
    /// Whether it becomes the service's user only when it is in the service's control group.
    is_grouped: bool,
    program: Program,
}

/// Everything that processes are started with.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// The pool from which processes are started; `None` on an old kernel.
    pool: Option<DescriptorPool>,
    null: OwnedFd,
    environments: Environments,
    /// An identifier that distinguishes the scandir from every other one.
    scandir_identity: String,
    /// Our changed settings, which are restored for children.
    given_back: GivenBack,
    /// The path to execute to become this very program.
    ourselves: CString,
    /// The path of this program in the interpreter lines of scripts.
    program: Vec<u8>,
    groups: Groups,
    /// Processes that failed to reach their program, and helpers, until they are reaped.
    unreaped: HashMap<Pid, Starting>,
    /// Those of them that end a control group.
    group_enders: HashSet<Pid>,
}

impl Spawner {
    /// `null` must be opened before most other files, so that the descriptors of the pool are low.
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

    /// Returns whether a process can be started without a copy of every descriptor. A used range
    /// becomes free as soon as its child has its own table.
    pub(crate) fn has_free_range(&self) -> bool {
        self.pool.as_ref().is_none_or(DescriptorPool::has_free)
    }

    /// Notes that no process is starting and none is waiting to be started.
    pub(crate) fn rest(&self) {
        if let Some(pool) = &self.pool {
            pool.rest();
        }
    }

    /// Returns the settings of a process that runs in `directory` as our user with our outputs.
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

    /// Does the same as [`Self::spec`], in the directory of a service and as its user.
    fn spec_of<'a>(
        &'a self,
        service: &'a SupervisedService,
        (program, argv): (&'a CStr, Vec<CString>),
        (stdout, stderr): Outputs<'a>,
    ) -> ProcessSpec<'a> {
        let pool = self.pool.as_ref();
        let user = service.owner();
        ProcessSpec { stdout, stderr, user, pool, ..self.spec(service.dir().as_fd(), program, argv) }
    }

    /// Decides how to start `run`, or returns why it is not started.
    pub(crate) fn prepare_run(&mut self, service: &mut SupervisedService) -> Result<PreparedRun, String> {
        let name = service.name();
        service_scripts::trusted(service, files::RUN)
            .map_err(|distrust| format!("executing ./run: {distrust}"))?;
        let notification = settings::descriptor(service, files::NOTIFICATION_FD);
        let isolation = service_scripts::isolation(service, &name, notification)?;
        let program = noexec::program(service.dir(), c"run", vec![service.argument()]);
        let grouped = self.groups.enter(service, isolation, &program, &self.ourselves)?;
        let is_grouped = grouped.is_some();
        Ok(PreparedRun { notification, isolation, is_grouped, program: grouped.unwrap_or(program) })
    }

    /// Starts `run`; also returns the pipe on which it announces its readiness.
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
        if let (ServiceRole::Logger, Some(reader)) = (service.role(), service.pipe()) {
            spec.stdin = reader;
        }
        let notified = run.notification.zip(pipe.as_ref());
        spec.extras = [notified.map(|(number, (_, writer))| (writer.as_fd(), number)), None, None];
        if run.is_grouped {
            // It keeps our user until the group is made; then it becomes the owner.
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
        let (program, argv) = noexec::program(service.dir(), c"finish", arguments);
        let environment = self.environment_of(service);
        spawn::start(ProcessSpec { environment, ..self.spec_of(service, (&program, argv), outputs) })
    }

    /// Starts, as the service's user, the process that asks whether the service, whose process
    /// `pid` ended with `code`, wants to be started again. Also returns the milliseconds that it
    /// may take.
    pub(crate) fn start_question(
        &self,
        service: &SupervisedService,
        (pid, code): (Pid, u8),
        (log, errors): Outputs<'_>,
    ) -> Result<(Starting, u64), StartFailure> {
        let argv = vec![
            c"gatevisor".to_owned(),
            c"ask-handoff".to_owned(),
            service.argument(),
            text(pid.to_string()),
            text(code.to_string()),
        ];
        let environment = self.environment_of(service);
        // What it says is about the service, so it is in the service's log.
        let spec = self.spec_of(service, (&self.ourselves, argv), (log, errors.or(log)));
        Ok((spawn::start(ProcessSpec { environment, ..spec })?, QUESTION_MS))
    }

    /// Starts, as the service's user, the process that ends leftover processes; also returns the
    /// milliseconds that it may take.
    pub(crate) fn start_cleanup(
        &self,
        service: &SupervisedService,
        whose: Leftover,
    ) -> Result<(Starting, u64), StartFailure> {
        let own_grace_ms = || settings::timeout_kill_ms(service);
        let plan = launch::cleanup(whose, service.role(), service.owner().is_some(), own_grace_ms);
        let since = service.directory().orphan().map_or(0, |orphan| orphan.since_unix_ms());
        let mut argv = vec![
            c"gatevisor".to_owned(),
            c"end-survivors".to_owned(),
            text(self.scandir_identity.clone()),
            service.argument(),
            text(plan.word.to_owned()),
            text(plan.pid.map_or(0, Pid::get).to_string()),
            text(since.to_string()),
            text(plan.grace_ms.to_string()),
        ];
        argv.extend(service.group().cloned());
        let log = service.pipe().filter(|_| plan.is_logged);
        let environment = self.environments.of(service.owner());
        let spec = self.spec_of(service, (c"/proc/self/exe", argv), (log, log));
        Ok((spawn::start(ProcessSpec { environment, ..spec })?, plan.limit_ms))
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

    /// Starts this very program with these words, to run beside us.
    pub(crate) fn start_companion(
        &self,
        scandir: BorrowedFd<'_>,
        words: &[CString],
    ) -> Result<Starting, Errno> {
        spawn::start(self.spec(scandir, &self.ourselves, words.to_vec())).map_err(|failure| failure.errno)
    }

    /// Starts a script of the scandir as a child that nobody waits for.
    pub(crate) fn start_script(&mut self, scandir: BorrowedFd<'_>, script: &CStr) -> Result<(), Errno> {
        let started = spawn::start(self.spec(scandir, script, vec![script.to_owned()]));
        let starting = started.map_err(|failure| failure.errno)?;
        self.disown(starting);
        Ok(())
    }

    /// Starts a child that nobody waits for, which ends a service's group with the processes left
    /// in it.
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

    /// Keeps a process that belongs to nothing until it is reaped, because it may still use memory
    /// of ours for a moment.
    pub(crate) fn disown(&mut self, starting: Starting) -> Option<Pid> {
        let pid = Pid::new(starting.pid())?;
        self.unreaped.insert(pid, starting);
        Some(pid)
    }

    /// Notes that a process was reaped; returns whether it belonged to nothing.
    pub(crate) fn reaped(&mut self, pid: Pid) -> bool {
        self.group_enders.remove(&pid);
        self.unreaped.remove(&pid).is_some()
    }

    /// Returns the kind of a process that is neither a service's nor a log daemon nor the command.
    pub(crate) fn kind_of(&self, pid: Pid) -> ChildKind {
        if self.group_enders.contains(&pid) {
            ChildKind::GroupEnder
        } else if self.unreaped.contains_key(&pid) {
            ChildKind::Helper
        } else {
            ChildKind::Stranger
        }
    }

    /// Returns whether the log daemon replaces this `log/run`: its interpreter is this very
    /// program, or s6-log with directives that the daemon can express.
    pub(crate) fn is_logged_by_daemon(&self, log: impl AsFd) -> bool {
        let mut head = [0; service_scripts::SHEBANG_BYTES];
        file::read_small(log, files::RUN, &mut head).is_ok_and(|head| {
            LogScript::from_file(head).is_some() || service_scripts::begins_as(head, &self.program, "log")
        })
    }

    /// Returns whether the interpreter of a script is this very program, called with `verb`.
    pub(crate) fn is_ours(&self, dir: impl AsFd, script: &str, verb: &str) -> bool {
        service_scripts::is_run_by(dir, script, &self.program, verb)
    }

    /// Restores the settings of this process, because it becomes another program; returns that
    /// program's environment.
    pub(crate) fn environment_of_next_program(&self) -> Rc<Environment> {
        limits::give_back(&self.given_back);
        self.environments.of(None)
    }

    /// Becomes the container's command, in a child; returns only if that fails, with the reason.
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
        Rc::new(Environment::with(&self.environments.of(service.owner()), assignment))
    }
}

fn text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Returns the path to execute to become this very program. With `/proc`, it works even if the
/// program's path leads elsewhere by now.
fn ourselves(program: &Path) -> CString {
    const SELF: &CStr = c"/proc/self/exe";
    let by_path = || CString::new(program.as_os_str().as_encoded_bytes()).unwrap_or_default();
    rustix::fs::readlink(SELF, Vec::new()).map_or_else(|_| by_path(), |_| SELF.to_owned())
}
