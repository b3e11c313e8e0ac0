//! Every `unsafe` block of the project.
//!
//! *Lives here:* clone, exec, signalfd, signal masks, descriptor adoption, mappings.
//! *Does not live here:* anything that rustix or std offer safely.
//!
//! Each block says why nothing safe does this (**JUSTIFICATION**) and why it is sound (**SAFETY**).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

/// Returns the last error of a libc call as an [`Errno`].
fn last_errno() -> Errno {
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

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
    // JUSTIFICATION: rustix wraps too few of the calls needed between clone and exec in its stable API.
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

/// Returns the path that this process was executed with, as whoever did it wrote it.
pub(crate) fn executed_path() -> Option<CString> {
    // JUSTIFICATION: std asks /proc, which need not be there; rustix has no safe call for it either.
    // SAFETY: the kernel puts there a text that ends with a zero byte and stays as long as the process, or nothing.
    let text = unsafe {
        let address = libc::getauxval(libc::AT_EXECFN);
        (address != 0)
            .then(|| CStr::from_ptr(std::ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0))))
    };
    text.map(CStr::to_owned)
}

/// What a child writes when it has its own table of descriptors.
pub(crate) const UNSHARED: u8 = b'U';

/// What a child writes when it has to wait for the lock.
pub(crate) const BLOCKED: u8 = b'B';

/// What a child writes when it need not wait for the lock any more.
pub(crate) const LOCKED: u8 = b'L';

/// Where the lock of a service is, below its directory.
const LOCK_FILE: &CStr = c"supervise/service-lock";

/// Where a process says how likely the kernel shall choose it when memory is short.
const OOM_SCORE_ADJ: &CStr = c"/proc/self/oom_score_adj";

/// How many descriptors besides the standard ones a child can be given.
pub(crate) const EXTRAS: usize = 3;

/// One step between clone and exec that failed: which, and the errno.
pub(crate) const REPORT_LEN: usize = 8;

/// What a child does between clone and exec. Plain numbers and pointers only; everything is prepared
/// by the parent, which keeps it alive until the exec is known to have happened.
#[derive(Debug)]
pub(crate) struct ChildPlan {
    pub(crate) new_session: bool,
    /// Everything needed besides the standard descriptors is from the first of these to the second: the child shares its
    /// parent's table until it has copied what is up to there.
    pub(crate) pooled: Option<(RawFd, RawFd)>,
    pub(crate) credentials: Option<(u32, u32, Vec<u32>)>,
    pub(crate) directory: RawFd,
    pub(crate) stdin: RawFd,
    pub(crate) stdout: Option<RawFd>,
    pub(crate) stderr: Option<RawFd>,
    /// Descriptors of the parent and the numbers that they have in the child.
    pub(crate) extras: [Option<(RawFd, RawFd)>; EXTRAS],
    /// The number of a descriptor of the service's lock, which is taken before exec.
    pub(crate) lock: Option<RawFd>,
    /// Whether the child is the first process of a PID namespace.
    pub(crate) pid_namespace: bool,
    pub(crate) report: RawFd,
    pub(crate) open_files: Option<(u64, u64)>,
    pub(crate) core: Option<(u64, u64)>,
    /// What is written to the file of that name; only for a child that does not share its parent's memory.
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    pub(crate) program: CString,
    #[expect(dead_code, reason = "keeps the strings alive that `argv_pointers` points to")]
    pub(crate) argv: Vec<CString>,
    pub(crate) argv_pointers: Vec<*const c_char>,
    pub(crate) environment: std::rc::Rc<Environment>,
}

/// An environment block that an exec can use as it is.
#[derive(Debug)]
pub struct Environment {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Keeps the strings alive of which only the pointers are ours.
    _base: Option<std::rc::Rc<Self>>,
}

impl Environment {
    /// Returns the block made of `strings`, each `NAME=value`.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = null_terminated(&strings);
        Self { strings, pointers, _base: None }
    }

    /// Returns a block that has one string more than `base`, whose own are not copied.
    pub fn with(base: &std::rc::Rc<Self>, string: CString) -> Self {
        let strings = vec![string];
        let inherited = base.pointers.split_last().map_or(&[][..], |(_null, pointers)| pointers);
        let pointers = inherited.iter().copied().chain(null_terminated(&strings)).collect();
        Self { strings, pointers, _base: Some(std::rc::Rc::clone(base)) }
    }

    /// Returns the strings of the block, without those of another one that it was made with.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Returns pointers to `strings`, with a null at the end. They are valid as long as the strings.
pub(crate) fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Steps between clone and exec, as reported by number.
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

/// The memory a cloned child runs on: its stack and its orders.
#[derive(Debug)]
pub(crate) struct ChildMemory {
    /// No child may run on it when it is taken away.
    pub(crate) stack: Stack,
    plan: ChildPlan,
}

/// The stack of a child.
pub(crate) type Stack = Box<[u128]>;

/// Bytes of stack that a child needs before exec: it calls a handful of leaf functions.
const STACK_BYTES: usize = 16 * 1024;

/// Returns a new stack.
pub(crate) fn stack() -> Stack {
    vec![0_u128; STACK_BYTES / 16].into_boxed_slice()
}

impl ChildMemory {
    pub(crate) fn new(stack: Stack, plan: ChildPlan) -> Self {
        Self { stack, plan }
    }

    /// Starts the child; with `share_memory` it runs in the parent's address space until exec, which
    /// saves copying page tables. The caller keeps `self` until the report pipe says that it is over.
    pub(crate) fn launch(&mut self, share_memory: bool) -> Result<i32, Errno> {
        extern "C" fn enter(argument: *mut c_void) -> c_int {
            // SAFETY: `argument` is the `ChildPlan` of the `ChildMemory` that launched us; the parent keeps it
            // alive and unchanged until exec or exit.
            let plan = unsafe { &*argument.cast::<ChildPlan>() };
            become_program(plan)
        }
        let mut flags = libc::SIGCHLD;
        if share_memory {
            flags |= libc::CLONE_VM;
        }
        if self.plan.pooled.is_some() {
            flags |= libc::CLONE_FILES;
        }
        if self.plan.pid_namespace {
            flags |= libc::CLONE_NEWPID;
        }
        let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
        let argument = (&raw mut self.plan).cast::<c_void>();
        // JUSTIFICATION: no safe wrapper exists for clone(2).
        // SAFETY: `top` is the 16-byte aligned end of a live allocation used by this child only; all
        // signals are blocked in the parent, so no handler runs on it; the child calls only
        // `become_program`, which makes bare system calls and neither allocates nor panics.
        let pid = unsafe { libc::clone(enter, top, flags, argument) };
        if pid < 0 { Err(last_errno()) } else { Ok(pid) }
    }
}

/// Performs `plan` in the child. Never returns in success; the exit code of a failure is 127.
fn become_program(plan: &ChildPlan) -> c_int {
    let mut report = word(plan.report);
    let (failed, errno) = attempt(plan, &mut report);
    let record: u64 = u64::from(failed) | u64::from(errno) << 32;
    let record = record.to_le_bytes();
    bare_syscall(libc::SYS_write, [report, record.as_ptr() as usize, REPORT_LEN, 0]);
    bare_syscall(libc::SYS_exit_group, [127, 0, 0, 0]);
    127
}

/// Returns a number as a system call's argument.
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

/// Gives a descriptor the number that it has in the program.
fn put(from: usize, to: RawFd) -> Result<usize, u32> {
    // dup3 refuses equal numbers; such a descriptor only has to lose its close-on-exec flag.
    if from == word(to) {
        run(libc::SYS_fcntl, [from, word(libc::F_SETFD), 0, 0])
    } else {
        run(libc::SYS_dup3, [from, word(to), 0, 0])
    }
}

/// Opens the lock of the service as `number` and takes it, waiting if need be and `may_wait`.
///
/// It is a record lock, as s6 has it: this process holds it until it ends, also through exec, and loses it with
/// the first descriptor of the file that it closes. So there is one descriptor only, and it is not the parent's.
fn take_lock(number: RawFd, may_wait: bool, report: usize) -> Result<usize, u32> {
    const FLAGS: c_int =
        libc::O_WRONLY | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    #[expect(clippy::cast_possible_truncation, reason = "1 and 0, of a type that differs from the fields'")]
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // From the beginning to wherever the end is.
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
    // Where nobody listens any more, nobody wants it to run.
    say(LOCKED)
}

/// Runs the steps in order and returns the one that failed with its errno.
///
/// `report` is where failures are written; it moves away from a number that an extra descriptor takes.
fn attempt(plan: &ChildPlan, report: &mut usize) -> (u32, u32) {
    if let Some((lowest, highest)) = plan.pooled {
        // Before anything else: until then every descriptor that changes here changes in the parent.
        let above = word(highest.saturating_add(1));
        let args = [above, u32::MAX as usize, libc::CLOSE_RANGE_UNSHARE as usize, 0];
        if let Err(errno) = run(libc::SYS_close_range, args) {
            return (step::DESCRIPTORS, errno);
        }
        let first = libc::STDERR_FILENO + 1;
        if first < lowest {
            let _ = run(libc::SYS_close_range, [word(first), word(lowest - 1), 0, 0]);
        }
        let unshared = [UNSHARED];
        let _ = run(libc::SYS_write, [*report, unshared.as_ptr() as usize, unshared.len(), 0]);
    }
    if plan.new_session {
        // Cannot fail: a fresh child leads no group.
        let _ = run(libc::SYS_setsid, [0; 4]);
    }
    for (resource, limit) in [(libc::RLIMIT_NOFILE, plan.open_files), (libc::RLIMIT_CORE, plan.core)] {
        let Some((soft, hard)) = limit else { continue };
        let rlimit: [u64; 2] = [soft, hard];
        let args = [0, resource as usize, rlimit.as_ptr() as usize, 0];
        if let Err(errno) = run(libc::SYS_prlimit64, args) {
            return (step::LIMITS, errno);
        }
    }
    if let Some(text) = &plan.oom_score_adj {
        // While it is root still. The process has its memory for itself; it runs also where this cannot be.
        let flags = word(libc::O_WRONLY | libc::O_CLOEXEC);
        let path = OOM_SCORE_ADJ.as_ptr() as usize;
        if let Ok(file) = run(libc::SYS_openat, [word(libc::AT_FDCWD), path, flags, 0]) {
            let _ = run(libc::SYS_write, [file, text.as_ptr() as usize, text.len(), 0]);
            let _ = run(libc::SYS_close, [file, 0, 0, 0]);
        }
    }
    if let Some((uid, gid, groups)) = &plan.credentials {
        let (uid, gid) = (*uid as usize, *gid as usize);
        if let Err(errno) = run(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0]) {
            return (step::GROUPS, errno);
        }
        if let Err(errno) = run(libc::SYS_setresgid, [gid, gid, gid, 0]) {
            return (step::GROUP, errno);
        }
        if let Err(errno) = run(libc::SYS_setresuid, [uid, uid, uid, 0]) {
            return (step::USER, errno);
        }
    }
    if let Err(errno) = run(libc::SYS_fchdir, [word(plan.directory), 0, 0, 0]) {
        return (step::DIRECTORY, errno);
    }
    let standard = [Some((plan.stdin, 0)), plan.stdout.map(|fd| (fd, 1)), plan.stderr.map(|fd| (fd, 2))];
    for (from, to) in standard.into_iter().flatten() {
        if let Err(errno) = put(word(from), to) {
            return (step::DESCRIPTORS, errno);
        }
    }
    // None of the rest may be where another one goes.
    let numbers = || plan.extras.iter().flatten().map(|(_, to)| *to).chain(plan.lock);
    let above = numbers().fold(0, |above, to| above.max(to.saturating_add(1)));
    let out_of_the_way = |from: usize, own: Option<RawFd>| {
        if numbers().any(|to| word(to) == from && own != Some(to)) {
            run(libc::SYS_fcntl, [from, word(libc::F_DUPFD_CLOEXEC), word(above), 0])
        } else {
            Ok(from)
        }
    };
    match out_of_the_way(*report, None) {
        Ok(moved) => *report = moved,
        Err(errno) => return (step::DESCRIPTORS, errno),
    }
    let mut sources = [0; EXTRAS];
    for (source, extra) in sources.iter_mut().zip(plan.extras) {
        let Some((from, to)) = extra else { continue };
        match out_of_the_way(word(from), Some(to)) {
            Ok(moved) => *source = moved,
            Err(errno) => return (step::DESCRIPTORS, errno),
        }
    }
    for (source, extra) in sources.into_iter().zip(plan.extras) {
        if let Some((_, to)) = extra
            && let Err(errno) = put(source, to)
        {
            return (step::DESCRIPTORS, errno);
        }
    }
    let empty_mask = 0_u64;
    let _ = run(libc::SYS_rt_sigprocmask, [word(libc::SIG_SETMASK), &raw const empty_mask as usize, 0, 8]);
    // Only a child that has nothing of its parent's but what it needs may stay for long.
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
    match run(libc::SYS_execve, args) {
        Err(errno) => (step::EXEC, errno),
        Ok(_) => (step::EXEC, 0),
    }
}

/// Numbers in a file that is mapped into this process, and perhaps into others.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<AtomicU64>,
    count: usize,
}

impl Mapping {
    /// Maps the first `count` numbers of a file that has them and that cannot shrink.
    pub(crate) fn new(file: BorrowedFd<'_>, count: usize) -> Result<Self, Errno> {
        Self::map(libc::MAP_SHARED, file.as_raw_fd(), count)
    }

    /// Takes memory for `count` numbers, zero at first.
    pub(crate) fn private(count: usize) -> Result<Self, Errno> {
        Self::map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, count)
    }

    fn map(flags: c_int, file: RawFd, count: usize) -> Result<Self, Errno> {
        let length = count.checked_mul(size_of::<AtomicU64>()).ok_or(Errno::OVERFLOW)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // JUSTIFICATION: neither std nor rustix offers a safe mapping.
        // SAFETY: with a null address the kernel takes memory that nothing else uses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
        if address == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let address = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { address, count })
    }

    /// Returns the numbers.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // JUSTIFICATION: the memory is not one that Rust allocated.
        // SAFETY: `map` mapped `count` numbers at this page-aligned address, and they stay until `drop`; every bit
        // pattern is a number; whoever else sees them changes them only as atomics or by system calls.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let length = self.count.saturating_mul(size_of::<AtomicU64>());
        // JUSTIFICATION: what `mmap` took only `munmap` gives back.
        // SAFETY: the range is the one that `map` mapped, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.address.as_ptr().cast(), length) };
    }
}

// SAFETY: atomics may be used from every thread, and the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives nothing but atomics.
unsafe impl Sync for Mapping {}

/// Replaces this process by `path`; returns only the reason why it could not.
pub(crate) fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let argv = null_terminated(argv);
    let envp = null_terminated(envp);
    // JUSTIFICATION: std's `CommandExt::exec` resets signal masks and needs a `Command`; rustix has no stable exec.
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

/// Forks; returns 0 in the child.
pub(crate) fn fork() -> Result<i32, Errno> {
    // JUSTIFICATION: neither std nor rustix's stable API offers fork.
    // SAFETY: callers are single-threaded (documented on the public function), so the child may run
    // ordinary code.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(last_errno()) } else { Ok(pid) }
}

/// Ends this process at once, without running destructors.
pub(crate) fn exit_now(code: i32) -> ! {
    // JUSTIFICATION: std::process::exit would flush and run handlers that belong to the parent.
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Takes the ownership of descriptor `number`, which must be open.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // JUSTIFICATION: a descriptor inherited through exec has no owner in std's eyes.
    // SAFETY: F_GETFD only reads; when it succeeds the descriptor is open, and the caller promises
    // to adopt it once.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Sets the close-on-exec flag of every descriptor from `first` on; before kernel 5.11, of those below the limit.
pub(crate) fn close_on_exec_from(first: u32) {
    // JUSTIFICATION: neither std nor rustix offers close_range, and both refuse descriptors without an owner.
    // SAFETY: with this flag nothing is closed, so no owner loses its descriptor.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(0, 1 << 20);
        for number in i32::try_from(first).unwrap_or(i32::MAX)..i32::try_from(limit).unwrap_or(0) {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Gives up the controlling terminal, if there is one.
pub(crate) fn give_up_terminal() {
    // JUSTIFICATION: rustix offers the request that takes a terminal and not the one that gives it up.
    // SAFETY: the request has no argument; on anything else than a terminal of ours it fails.
    unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCNOTTY) };
}

/// Returns the number of the session of a process, 0 meaning this one; 0 where its leader cannot be seen from here.
pub(crate) fn session(pid: i32) -> Result<i32, Errno> {
    // JUSTIFICATION: rustix takes it that a number is never 0.
    // SAFETY: the call has no memory of ours.
    let session = unsafe { libc::getsid(pid) };
    if session < 0 { Err(last_errno()) } else { Ok(session) }
}

/// Returns the number of this process's group; 0 where its leader cannot be seen from here.
pub(crate) fn own_group() -> i32 {
    // JUSTIFICATION: as above.
    // SAFETY: the call has no memory of ours, and cannot fail.
    unsafe { libc::getpgrp() }
}

/// Finds out whether a process can take a copy of the low part of a shared table of descriptors.
///
/// In a process that shares its table with nobody this changes nothing.
pub(crate) fn try_unsharing() -> Result<(), Errno> {
    // JUSTIFICATION: as above.
    // SAFETY: the range holds the one number that no descriptor can have.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // JUSTIFICATION: sigset_t is opaque and only libc fills it.
    // SAFETY: sigemptyset initialises the whole set before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Blocks every signal in this thread, and puts those in `defaults` back to their default action.
pub(crate) fn block_all(defaults: &[i32]) -> Result<(), Errno> {
    // JUSTIFICATION: rustix offers no sigprocmask in its stable API.
    // SAFETY: the set is initialised by sigfillset; SIG_DFL is a valid disposition for each signal.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) < 0 {
            return Err(last_errno());
        }
        for &signal in defaults {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    Ok(())
}

/// Empties this thread's signal mask.
pub(crate) fn unblock_all() {
    let set = signal_set(&[]);
    // JUSTIFICATION: as above.
    // SAFETY: the set is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// What [`signals_of_a_new_program`] changed.
pub(crate) struct SignalsBefore {
    pipe: libc::sighandler_t,
    mask: libc::sigset_t,
}

/// Gives this process the signals that a program expects at its start: `SIGPIPE` at its default, which Rust's runtime ignores, and
/// unless `keeps_mask` none blocked. What else is ignored was so when we were started, and stays.
pub(crate) fn signals_of_a_new_program(keeps_mask: bool) -> SignalsBefore {
    let mut mask = signal_set(&[]);
    let empty = signal_set(&[]);
    let new = if keeps_mask { std::ptr::null() } else { &raw const empty };
    // JUSTIFICATION: std and rustix cannot change a disposition, and std's `Command` is the only one to change a mask.
    // SAFETY: both sets are initialised, and a null pointer asks for the mask only; SIG_DFL is a valid disposition.
    let pipe = unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, new, &raw mut mask);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL)
    };
    SignalsBefore { pipe, mask }
}

/// Puts back what [`signals_of_a_new_program`] changed.
pub(crate) fn put_signals_back(before: &SignalsBefore) {
    // JUSTIFICATION: as above.
    // SAFETY: the disposition is the one that signal(2) returned, and the set the one that was in force.
    unsafe {
        libc::signal(libc::SIGPIPE, before.pipe);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before.mask, std::ptr::null_mut());
    }
}

/// Blocks or unblocks signals in this thread, besides what is blocked.
pub(crate) fn change_mask(signals: &[i32], blocked: bool) -> Result<(), Errno> {
    let set = signal_set(signals);
    let how = if blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // JUSTIFICATION: as above.
    // SAFETY: the set is initialised.
    let result = unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Sets the action of `signal` to ignore or default.
pub(crate) fn set_ignored(signal: i32, ignored: bool) {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // JUSTIFICATION: std and rustix cannot change a disposition.
    // SAFETY: both actions are valid for every catchable signal; no handler is installed.
    unsafe { libc::signal(signal, action) };
}

/// Blocks `signals` and returns a descriptor that delivers them.
pub(crate) fn signalfd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let set = signal_set(signals);
    // JUSTIFICATION: rustix has no signalfd.
    // SAFETY: the set is initialised; the returned descriptor is fresh and owned by nobody else.
    unsafe {
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(last_errno());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Reads one signal number from a signalfd, if one is pending.
pub(crate) fn read_signal(fd: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // JUSTIFICATION: the record's layout is known to libc only.
    // SAFETY: the buffer has the record's size; it is read only after a full record was written.
    unsafe {
        let n = libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size);
        if n < 0 {
            let errno = last_errno();
            return if errno == Errno::AGAIN || errno == Errno::INTR { Ok(None) } else { Err(errno) };
        }
        if n.unsigned_abs() != size {
            return Ok(None);
        }
        Ok(i32::try_from(info.assume_init().ssi_signo).ok())
    }
}

/// Replaces the supplementary groups, the group and the user of the whole process.
pub(crate) fn assume(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // JUSTIFICATION: rustix changes the calling thread only; libc changes every thread.
    // SAFETY: `groups` is a valid array of its length; the calls have no other preconditions.
    unsafe {
        if libc::setgroups(groups.len(), groups.as_ptr()) < 0
            || libc::setgid(gid) < 0
            || libc::setuid(uid) < 0
        {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Receives one datagram; returns its length, as it was sent, and the process that sent it, 0 where that has no number here.
///
/// Descriptors that it brings are thrown away by the kernel: there is room for the sender only.
pub(crate) fn receive_with_sender(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Option<i32>), Errno> {
    const SPACE: usize = 8;
    let mut control = [0_u64; SPACE];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // JUSTIFICATION: rustix has the sender's number as one that is never 0, and the kernel gives 0 for a process of another
    // PID namespace.
    // SAFETY: `message` points to `part` and `control`, which outlive the call, with their sizes; `CMSG_*` read within
    // `control`, which is aligned for a header, and the payload is read unaligned, if it is as long as a `ucred`.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(CREDENTIALS) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
        let length = libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags);
        let length = usize::try_from(length).map_err(|_| last_errno())?;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_sender = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_CREDENTIALS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(CREDENTIALS) as usize;
        let sender = is_sender.then(|| libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned().pid);
        Ok((length, sender))
    }
}

/// Bytes of what the kernel says about a sender.
#[expect(clippy::cast_possible_truncation, reason = "it has 12 bytes")]
const CREDENTIALS: u32 = size_of::<libc::ucred>() as u32;
