//! The work of a child between clone and exec.
//!
//! *Lives here:* the plan, the memory that the child runs on, and the bare system calls.
//! *Does not live here:* which program is started, and with what (`spawn`).
//!
//! The child may share its parent's memory, so nothing here allocates, panics or touches `errno`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::last_errno;

/// Makes the kernel call `number` without touching `errno`.
///
/// A child that shares its parent's memory also shares the parent's `errno`; a libc wrapper in the
/// child would overwrite the parent's last error.
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "c_long and isize have the same width on every Linux target"
)]
fn bare_syscall(number: libc::c_long, args: [usize; 4]) -> isize {
    let result: isize;
    // JUSTIFICATION: rustix wraps too few of the calls needed between clone and exec in its stable
    // API.
    // SAFETY: the `syscall` instruction clobbers rcx and r11 only, as declared; callers pass
    // pointers that stay valid for the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Makes the kernel call `number` without touching `errno`.
#[cfg(target_arch = "aarch64")]
fn bare_syscall(number: libc::c_long, args: [usize; 4]) -> isize {
    let result: isize;
    // JUSTIFICATION: as for x86_64.
    // SAFETY: `svc 0` takes the number in x8 and returns in x0, as declared.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            options(nostack)
        );
    }
    result
}

/// Written by the child when it has its own table of descriptors.
pub(crate) const UNSHARED: u8 = b'U';

/// Written by the child when it has to wait for the lock.
pub(crate) const BLOCKED: u8 = b'B';

/// Written by the child when it need not wait for the lock any more.
pub(crate) const LOCKED: u8 = b'L';

/// The path of a service's lock below its directory.
const LOCK_FILE: &CStr = c"supervise/service-lock";

/// The file with a process's adjustment of the kernel's choice when memory is short.
const OOM_SCORE_ADJ: &CStr = c"/proc/self/oom_score_adj";

/// How many descriptors besides the standard ones a child can be given.
pub(crate) const EXTRAS: usize = 3;

/// Bytes of the report of a failed step between clone and exec: the step's number and the errno.
pub(crate) const REPORT_LEN: usize = 8;

/// The plan of a child between clone and exec. It holds plain numbers and pointers only. The parent
/// prepares everything, and keeps it alive until exec is known to have happened.
#[derive(Debug)]
pub(crate) struct ChildPlan {
    pub(crate) new_session: bool,
    /// The first and the last number of the range that holds everything needed besides the standard
    /// descriptors. The child shares its parent's table until it has copied the table up to there.
    pub(crate) pooled: Option<(RawFd, RawFd)>,
    pub(crate) credentials: Option<(u32, u32, Vec<u32>)>,
    pub(crate) directory: RawFd,
    pub(crate) stdin: RawFd,
    pub(crate) stdout: Option<RawFd>,
    pub(crate) stderr: Option<RawFd>,
    /// Descriptors of the parent, and their numbers in the child.
    pub(crate) extras: [Option<(RawFd, RawFd)>; EXTRAS],
    /// The number of a descriptor of the service's lock, which is taken before exec.
    pub(crate) lock: Option<RawFd>,
    /// Whether the child is the first process of a PID namespace.
    pub(crate) pid_namespace: bool,
    pub(crate) report: RawFd,
    pub(crate) open_files: Option<(u64, u64)>,
    pub(crate) core: Option<(u64, u64)>,
    /// The text for the `oom_score_adj` file; only for a child that does not share its parent's
    /// memory.
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    pub(crate) program: CString,
    #[expect(dead_code, reason = "keeps the strings alive that `argv_pointers` points to")]
    pub(crate) argv: Vec<CString>,
    pub(crate) argv_pointers: Vec<*const c_char>,
    pub(crate) environment: std::rc::Rc<Environment>,
}

/// An environment block that exec can use directly.
#[derive(Debug)]
pub struct Environment {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Keeps alive the strings to which some of our pointers lead.
    _base: Option<std::rc::Rc<Self>>,
}

impl Environment {
    /// Returns the block made of `strings`, each `NAME=value`.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = null_terminated(&strings);
        Self { strings, pointers, _base: None }
    }

    /// Returns a block that has one string more than `base`, without copying those of `base`.
    pub fn with(base: &std::rc::Rc<Self>, string: CString) -> Self {
        let strings = vec![string];
        let inherited = base.pointers.split_last().map_or(&[][..], |(_null, pointers)| pointers);
        let pointers = inherited.iter().copied().chain(null_terminated(&strings)).collect();
        Self { strings, pointers, _base: Some(std::rc::Rc::clone(base)) }
    }

    /// Returns the strings of this block, without those of the block that it extends.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Returns pointers to `strings`, with a null at the end. They are valid as long as the strings.
pub(crate) fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// The steps between clone and exec, by the numbers in reports.
pub(crate) mod step {
    pub(crate) const LIMITS: u32 = 1;
    pub(crate) const GROUPS: u32 = 2;
    pub(crate) const GROUP: u32 = 3;
    pub(crate) const USER: u32 = 4;
    pub(crate) const DIRECTORY: u32 = 5;
    pub(crate) const DESCRIPTORS: u32 = 6;
    pub(crate) const EXEC: u32 = 7;
    pub(crate) const LOCK: u32 = 8;
}

/// The memory of a cloned child: its stack and its plan.
#[derive(Debug)]
pub(crate) struct ChildMemory {
    /// No child may still use it when it is taken away.
    pub(crate) stack: Stack,
    plan: ChildPlan,
}

/// The memory that a child uses as its stack.
///
/// Nothing has written to a new one, so only the pages that a child uses cost memory.
pub(crate) type Stack = Box<[MaybeUninit<u128>]>;

/// Bytes of stack that a child needs before exec: it calls a handful of leaf functions.
const STACK_BYTES: usize = 16 * 1024;

/// Returns a new stack.
pub(crate) fn stack() -> Stack {
    Box::new_uninit_slice(STACK_BYTES / 16)
}

impl ChildMemory {
    pub(crate) fn new(stack: Stack, plan: ChildPlan) -> Self {
        Self { stack, plan }
    }

    /// Starts the child. With `share_memory`, it runs in the parent's address space until exec,
    /// which saves copying page tables. The caller keeps `self` until the report pipe says that the
    /// child has finished with it.
    pub(crate) fn launch(&mut self, share_memory: bool) -> Result<i32, Errno> {
        extern "C" fn enter(argument: *mut c_void) -> c_int {
            // SAFETY: `argument` is the `ChildPlan` of the `ChildMemory` that launched us; the
            // parent keeps it alive and unchanged until exec or exit.
            let plan = unsafe { &*argument.cast::<ChildPlan>() };
            become_program(plan)
        }
        let mut shared = 0;
        if share_memory {
            shared |= libc::CLONE_VM;
        }
        if self.plan.pooled.is_some() {
            shared |= libc::CLONE_FILES;
        }
        let mut flags = libc::SIGCHLD;
        if self.plan.pid_namespace {
            flags |= libc::CLONE_NEWPID;
        }
        let mut clone = |flags: c_int| {
            let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
            let argument = (&raw mut self.plan).cast::<c_void>();
            // JUSTIFICATION: no safe wrapper exists for clone(2).
            // SAFETY: `top` is the 16-byte aligned end of a live allocation used by this child
            // only; all signals are blocked in the parent, so no handler runs on it; the child
            // calls only `become_program`, which makes bare system calls and neither allocates nor
            // panics.
            let pid = unsafe { libc::clone(enter, top, flags, argument) };
            if pid < 0 { Err(last_errno()) } else { Ok(pid) }
        };
        if shared == 0 || COPIES_ONLY.load(Ordering::Relaxed) {
            return clone(flags);
        }
        match clone(flags | shared) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                let pid = clone(flags)?;
                COPIES_ONLY.store(true, Ordering::Relaxed);
                Ok(pid)
            }
            result => result,
        }
    }
}

/// Whether this system has refused a child that shares something and accepted one that does not, as
/// emulators of other processors do. Such a child has copies of everything, which takes longer and
/// works as well.
static COPIES_ONLY: AtomicBool = AtomicBool::new(false);

/// Makes this process start its children as on a system that refuses shared memory.
#[cfg(test)]
pub(crate) fn copy_everything() {
    COPIES_ONLY.store(true, Ordering::Relaxed);
}

/// Performs `plan` in the child. Returns only in failure, with the exit code 127.
fn become_program(plan: &ChildPlan) -> c_int {
    let mut report = word(plan.report);
    let (failed, errno) = attempt(plan, &mut report);
    let record: u64 = u64::from(failed) | u64::from(errno) << 32;
    let record = record.to_le_bytes();
    bare_syscall(libc::SYS_write, [report, record.as_ptr() as usize, REPORT_LEN, 0]);
    bare_syscall(libc::SYS_exit_group, [127, 0, 0, 0]);
    127
}

/// Converts a number to a system call's argument.
fn word(number: c_int) -> usize {
    number.cast_unsigned() as usize
}

/// Makes a bare call and splits its result.
fn run(call: libc::c_long, args: [usize; 4]) -> Result<usize, u32> {
    let result = bare_syscall(call, args);
    if result < 0 {
        Err(u32::try_from(result.unsigned_abs()).unwrap_or(0))
    } else {
        Ok(result.unsigned_abs())
    }
}

/// Gives a descriptor its number in the program.
fn put(from: usize, to: RawFd) -> Result<usize, u32> {
    // dup3 refuses equal numbers; such a descriptor only has to lose its close-on-exec flag.
    if from == word(to) {
        run(libc::SYS_fcntl, [from, word(libc::F_SETFD), 0, 0])
    } else {
        run(libc::SYS_dup3, [from, word(to), 0, 0])
    }
}

/// Opens the lock of the service as `number` and takes it. Waits for it if `may_wait`.
///
/// It is a record lock, as in s6. This process holds it until it ends, also through exec, and loses
/// it when it closes any descriptor of the file. So there is only one descriptor of it, and it is
/// not one of the parent's.
fn take_lock(number: RawFd, may_wait: bool, report: usize) -> Result<usize, u32> {
    const FLAGS: c_int =
        libc::O_WRONLY | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    #[expect(clippy::cast_possible_truncation, reason = "1 and 0, of a type that differs from the fields'")]
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // The lock covers the whole file.
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let path = LOCK_FILE.as_ptr() as usize;
    let opened = run(libc::SYS_openat, [word(libc::AT_FDCWD), path, word(FLAGS), 0o644])?;
    put(opened, number)?;
    if opened != word(number) {
        let _ = run(libc::SYS_close, [opened, 0, 0, 0]);
    }
    let lock = &raw const lock as usize;
    let free = run(libc::SYS_fcntl, [word(number), word(libc::F_SETLK), lock, 0]);
    let busy = [libc::EAGAIN, libc::EACCES].map(c_int::cast_unsigned);
    match free {
        Err(errno) if may_wait && busy.contains(&errno) => {}
        other => return other,
    }
    let say = |what: u8| run(libc::SYS_write, [report, &raw const what as usize, 1, 0]);
    say(BLOCKED)?;
    while let Err(errno) = run(libc::SYS_fcntl, [word(number), word(libc::F_SETLKW), lock, 0]) {
        if errno != libc::EINTR.cast_unsigned() {
            return Err(errno);
        }
    }
    // If nobody reads the report any more, nobody wants the service to run.
    say(LOCKED)
}

/// The failed step, and its errno.
type Failed = (u32, u32);

/// Returns a function that turns an errno into the failure of a step.
fn at(step: u32) -> impl Fn(u32) -> Failed {
    move |errno| (step, errno)
}

/// Runs the steps in order, and returns the one that failed, with its errno.
///
/// `report` is the descriptor for the report of a failure; it moves if an extra descriptor needs
/// its number.
fn attempt(plan: &ChildPlan, report: &mut usize) -> Failed {
    let placed = copy_descriptors(plan, *report)
        .and_then(|()| {
            if plan.new_session {
                // This cannot fail: a fresh child leads no group.
                let _ = run(libc::SYS_setsid, [0; 4]);
            }
            give_limits_back(plan)
        })
        .and_then(|()| become_user(plan))
        .and_then(|()| enter_directory(plan))
        .and_then(|()| place_standard(plan))
        .and_then(|()| place_extras(plan, report));
    if let Err(failed) = placed {
        return failed;
    }
    let empty_mask = 0_u64;
    let _ = run(libc::SYS_rt_sigprocmask, [word(libc::SIG_SETMASK), &raw const empty_mask as usize, 0, 8]);
    // A child may wait only if it holds none of its parent's descriptors but those that it needs.
    if let Some(number) = plan.lock
        && let Err(errno) = take_lock(number, plan.pooled.is_some(), *report)
    {
        return (step::LOCK, errno);
    }
    let args = [
        plan.program.as_ptr() as usize,
        plan.argv_pointers.as_ptr() as usize,
        plan.environment.pointers.as_ptr() as usize,
        0,
    ];
    (step::EXEC, run(libc::SYS_execve, args).err().unwrap_or(0))
}

/// Copies the low part of the parent's table of descriptors, if everything needed is in a pooled
/// range.
///
/// This comes first: until then, every change of a descriptor here is a change in the parent.
fn copy_descriptors(plan: &ChildPlan, report: usize) -> Result<(), Failed> {
    let Some((lowest, highest)) = plan.pooled else { return Ok(()) };
    let above = word(highest.saturating_add(1));
    let args = [above, u32::MAX as usize, libc::CLOSE_RANGE_UNSHARE as usize, 0];
    run(libc::SYS_close_range, args).map_err(at(step::DESCRIPTORS))?;
    let first = libc::STDERR_FILENO + 1;
    if first < lowest {
        let _ = run(libc::SYS_close_range, [word(first), word(lowest - 1), 0, 0]);
    }
    let unshared = [UNSHARED];
    let _ = run(libc::SYS_write, [report, unshared.as_ptr() as usize, unshared.len(), 0]);
    Ok(())
}

/// Restores the limits that the parent had before it changed them for itself.
fn give_limits_back(plan: &ChildPlan) -> Result<(), Failed> {
    for (resource, limit) in [(libc::RLIMIT_NOFILE, plan.open_files), (libc::RLIMIT_CORE, plan.core)] {
        let Some((soft, hard)) = limit else { continue };
        let rlimit: [u64; 2] = [soft, hard];
        let args = [0, resource as usize, rlimit.as_ptr() as usize, 0];
        run(libc::SYS_prlimit64, args).map_err(at(step::LIMITS))?;
    }
    if let Some(text) = &plan.oom_score_adj {
        // This happens while the child is still root and has its memory for itself. A failure does
        // not stop the start.
        let flags = word(libc::O_WRONLY | libc::O_CLOEXEC);
        let path = OOM_SCORE_ADJ.as_ptr() as usize;
        if let Ok(file) = run(libc::SYS_openat, [word(libc::AT_FDCWD), path, flags, 0]) {
            let _ = run(libc::SYS_write, [file, text.as_ptr() as usize, text.len(), 0]);
            let _ = run(libc::SYS_close, [file, 0, 0, 0]);
        }
    }
    Ok(())
}

fn become_user(plan: &ChildPlan) -> Result<(), Failed> {
    let Some((uid, gid, groups)) = &plan.credentials else { return Ok(()) };
    let (uid, gid) = (*uid as usize, *gid as usize);
    let groups = [groups.len(), groups.as_ptr() as usize, 0, 0];
    run(libc::SYS_setgroups, groups).map_err(at(step::GROUPS))?;
    run(libc::SYS_setresgid, [gid, gid, gid, 0]).map_err(at(step::GROUP))?;
    run(libc::SYS_setresuid, [uid, uid, uid, 0]).map_err(at(step::USER))?;
    Ok(())
}

fn enter_directory(plan: &ChildPlan) -> Result<(), Failed> {
    run(libc::SYS_fchdir, [word(plan.directory), 0, 0, 0]).map_err(at(step::DIRECTORY))?;
    Ok(())
}

/// Gives standard input, output and error their numbers in the program.
fn place_standard(plan: &ChildPlan) -> Result<(), Failed> {
    let standard = [Some((plan.stdin, 0)), plan.stdout.map(|fd| (fd, 1)), plan.stderr.map(|fd| (fd, 2))];
    for (from, to) in standard.into_iter().flatten() {
        put(word(from), to).map_err(at(step::DESCRIPTORS))?;
    }
    Ok(())
}

/// Gives the extra descriptors their numbers in the program, and moves the report if one of them
/// needs its number.
fn place_extras(plan: &ChildPlan, report: &mut usize) -> Result<(), Failed> {
    // The remaining descriptors must be moved away from numbers that others need.
    let numbers = || plan.extras.iter().flatten().map(|(_, to)| *to).chain(plan.lock);
    let above = numbers().fold(0, |above, to| above.max(to.saturating_add(1)));
    let out_of_the_way = |from: usize, own: Option<RawFd>| {
        if numbers().any(|to| word(to) == from && own != Some(to)) {
            run(libc::SYS_fcntl, [from, word(libc::F_DUPFD_CLOEXEC), word(above), 0])
        } else {
            Ok(from)
        }
    };
    *report = out_of_the_way(*report, None).map_err(at(step::DESCRIPTORS))?;
    let mut sources = [0; EXTRAS];
    for (source, extra) in sources.iter_mut().zip(plan.extras) {
        let Some((from, to)) = extra else { continue };
        *source = out_of_the_way(word(from), Some(to)).map_err(at(step::DESCRIPTORS))?;
    }
    for (source, extra) in sources.into_iter().zip(plan.extras) {
        let Some((_, to)) = extra else { continue };
        put(source, to).map_err(at(step::DESCRIPTORS))?;
    }
    Ok(())
}
