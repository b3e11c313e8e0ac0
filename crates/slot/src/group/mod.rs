//! Control groups: limits on a service as a whole.
//!
//! *Lives here:* the two short programs that the supervisor starts, [`run_in_group`] before `run`
//! and [`end_group`] after the service has gone, and the meaning of the small files in `cgroup/`.
//! *Does not live here:* the places of groups on this machine (`hierarchies`); making and ending a
//! group (`leaf`).
//!
//! Only the supervisor may make groups, and the first process does nothing that may take time. So a
//! process with its user does it. That process knows a service by numbers only: `run` is not read
//! before the user has changed.

mod bound;
mod hierarchies;
mod leaf;

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use gatevisor_sys::file;
use gatevisor_wire::exit::Exit;
use gatevisor_wire::files;
use gatevisor_wire::script::Flaw;
use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use crate::confine::{Cannot, Shortfall};
use crate::data_files::START_ERROR;
use crate::failure::FailedStart;
use crate::os;

pub use bound::Bound;
use hierarchies::OwnGroups;
use leaf::Leaf;

/// The file of [`files::CGROUP`] that makes a limit that cannot be set prevent the start.
const STRICT: &str = "strict";
/// The prefix of the names of all our groups.
const PREFIX: &str = "gatevisor-";
/// The bytes of a number and its newline, and one more.
const NUMBER_BYTES: usize = 24;
/// Enough bytes of a script to recognize a flaw in its first line.
const HEAD_BYTES: usize = 256;

/// The name of a group: which supervisor made it, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupName {
    whole: String,
    /// The lengths of its prefixes for the supervisor and for the scandir.
    scandir: usize,
    run: usize,
    is_first: bool,
}

impl GroupName {
    /// Parses a name of the form `gatevisor-SCANDIR-START-NUMBER-SLOT`.
    fn parse(text: &OsStr) -> Option<Self> {
        let whole = text.to_str().filter(|whole| !whole.contains(['/', '\n']))?.to_owned();
        let rest = whole.strip_prefix(PREFIX)?;
        let mut parts = rest.splitn(4, '-');
        let (scandir, start, number, _slot) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let scandir_end = PREFIX.len().checked_add(scandir.len())?.checked_add(1)?;
        let run_end = scandir_end.checked_add(start.len())?.checked_add(1)?;
        let is_first = number == "0";
        Some(Self { scandir: scandir_end, run: run_end, is_first, whole })
    }

    /// Returns whether another group was made for an earlier supervisor of the same scandir.
    fn outlives(&self, other: &str) -> bool {
        let part = |end| self.whole.get(..end).unwrap_or(&self.whole);
        other.starts_with(part(self.scandir)) && !other.starts_with(part(self.run))
    }
}

/// Returns the name of our group that contains a process, directly or in a group below.
pub fn name_of(pid: i32) -> Option<String> {
    name_in(str::from_utf8(&gatevisor_sys::proc::groups(pid).ok()?).ok()?)
}

fn name_in(groups: &str) -> Option<String> {
    let mut parts =
        groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/'));
    parts.find(|part| GroupName::parse(OsStr::new(part)).is_some()).map(str::to_owned)
}

/// Returns the directories of a process's groups, as far as they are mounted here.
pub fn of_process(pid: i32) -> Vec<std::path::PathBuf> {
    OwnGroups::of(&format!("/proc/{pid}/cgroup")).directories()
}

/// Becomes a service's program in a group of its own, as the service's user. Returns only if that
/// fails.
///
/// `args` are the name of the group, the number of the user or `-`, the program, and the arguments,
/// beginning with the program's name. The working directory is the service directory.
///
/// On failure one line goes to standard error and to `data/start-error`. The exit codes are those
/// of the interpreter of `run`.
pub fn run_in_group(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let name = args.next().and_then(|name| GroupName::parse(&name));
    let (Some(name), Some(user), Some(program)) = (name, args.next(), args.next()) else {
        os::say("gatevisor: in-group: only the supervisor calls this");
        return Exit::Usage.into();
    };
    let words: Vec<CString> = args.filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    // The name is the last word, whether the script or its interpreter is executed.
    let service = words.last().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    let joined = confine(&name);
    // Whatever the result was, nothing that belongs to the service is touched before this.
    if let Err(failure) = become_user(&user) {
        return failure.report(&service, None::<&std::os::fd::OwnedFd>, None);
    }
    let failure = match joined {
        Ok(shortfall) => {
            if let Some(warning) = shortfall.warning() {
                // Standard output goes to the log.
                os::say_to_stdout(&format!("gatevisor: {service}: {warning}"));
            }
            // A `run` that is not ours would leave an old reason there.
            let _ = os::here().and_then(|here| os::remove_in_data(here, START_ERROR));
            execute(&program, &words)
        }
        Err(failure) => failure,
    };
    failure.report(&service, os::here().ok(), None)
}

fn become_user(user: &OsStr) -> Result<(), FailedStart> {
    const STAGE: &str = "setting user";
    if user == "-" {
        return Ok(());
    }
    let user =
        os::lookup(user.as_bytes()).map_err(|error| FailedStart::plain(STAGE, &error, Exit::System))?;
    os::assume(&user).map_err(|errno| {
        FailedStart::system(
            STAGE,
            format_args!("cannot become user `{}`", String::from_utf8_lossy(&user.name)),
            errno,
        )
    })
}

fn execute(program: &OsStr, argv: &[CString]) -> FailedStart {
    let path = CString::new(program.as_bytes()).unwrap_or_default();
    let errno = gatevisor_sys::process::exec(&path, argv, &os::environment_without(|_| false));
    let exit = if errno == Errno::NOENT { Exit::NotFound } else { Exit::NotExecutable };
    let failure = FailedStart::system("executing", format_args!("`{}`", program.display()), errno);
    let mut head = [0; HEAD_BYTES];
    // A script may look right to people but not to the kernel.
    let is_hidden = matches!(errno, Errno::NOENT | Errno::NOEXEC);
    let flaw = is_hidden.then(|| file::read_small(CWD, &path, &mut head).ok().and_then(Flaw::of)).flatten();
    let hint = flaw.map_or_else(String::new, |flaw| {
        format!(": {}; fix that: {} {}", flaw.words(), flaw.fix(), program.display())
    });
    FailedStart { exit, message: failure.message.clone() + &hint, ..failure }
}

/// Makes the group with the limits in `cgroup/`, and enters it.
fn confine(name: &GroupName) -> Result<Shortfall, FailedStart> {
    let (strict, bounds) = os::here()
        .and_then(|here| file::open_directory(here, files::CGROUP))
        .map(|limits| (statat(&limits, STRICT, AtFlags::SYMLINK_NOFOLLOW).is_ok(), read_bounds(limits)))
        .unwrap_or_default();
    let mut shortfall = Shortfall::new(strict);
    let mut wanted = Vec::new();
    for bound in bounds {
        match bound {
            Ok(bound) => wanted.push(bound),
            Err(cannot) => shortfall.take(Err(cannot))?,
        }
    }
    if wanted.is_empty() {
        return Ok(shortfall);
    }
    let places = OwnGroups::find();
    if name.is_first {
        places.sweep(|other| name.outlives(other));
    }
    let mut leaves: Vec<Leaf> = Vec::new();
    for (bound, number) in wanted {
        let set = places.leaf(bound, &name.whole).and_then(|leaf| {
            leaf.set(bound, number)?;
            Ok(leaf)
        });
        match set {
            Ok(leaf) if leaves.contains(&leaf) => {}
            Ok(leaf) => leaves.push(leaf),
            Err(cannot) => shortfall.take(Err(cannot))?,
        }
    }
    for leaf in leaves {
        shortfall.take(leaf.enter())?;
    }
    Ok(shortfall)
}

/// Returns the limits in the files of `cgroup/`. A file that makes no sense counts as a restriction
/// that cannot be applied.
fn read_bounds(directory: impl AsFd) -> Vec<Result<(Bound, u64), Cannot>> {
    let mut all = Vec::new();
    for bound in Bound::ALL {
        let mut buffer = [0; NUMBER_BYTES];
        let setting = || bound.path();
        let read = match file::read_small(&directory, bound.name(), &mut buffer) {
            Ok(bytes) => parse(bytes)
                .ok_or("the file must hold one number")
                .and_then(|number| bound.check(number).map(|()| number))
                .map_err(|reason| Cannot::new(setting(), None, reason)),
            Err(Errno::NOENT) => continue,
            Err(errno) => Err(Cannot::new(setting(), errno, "it must be a file that holds one number")),
        };
        all.push(read.map(|number| (bound, number)));
    }
    all
}

/// Returns the number on the first line.
pub fn parse(bytes: &[u8]) -> Option<u64> {
    let line = bytes.split(|&byte| byte == b'\n').next().filter(|line| line.len() < NUMBER_BYTES)?;
    let text = str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// Ends the processes that are left in a service's group, and removes the group.
///
/// `args` is the name of the group. The exit code is 0 if nothing of it is left.
pub fn end_group(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(name) = args.into_iter().next().and_then(|name| GroupName::parse(&name)) else {
        os::say("gatevisor: end-group: only the supervisor calls this");
        return Exit::Usage.into();
    };
    let left = OwnGroups::find().end(&name.whole);
    for (path, errno) in &left {
        let words = os::words(*errno);
        os::say(&format!(
            "gatevisor: warning: the control group `{}` is left behind: {words}",
            path.display()
        ));
    }
    ExitCode::from(u8::from(!left.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_whole_first_line() {
        for (bytes, number) in [
            (&b"512"[..], Some(512)),
            (b"512\nx", Some(512)),
            (b"18446744073709551615\n", Some(u64::MAX)),
            (b"18446744073709551616\n", None),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b"1M", None),
            (b"1 ", None),
            (b"000000000000000000000001", None),
        ] {
            assert_eq!(parse(bytes), number, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_group_of_a_process_is_found_whatever_the_version_and_however_deep_it_is() {
        let name = "gatevisor-1a.2-77-0-gateway-coder";
        for groups in [
            format!("0::/docker/x/{name}\n"),
            format!("4:pids:/{name}/below\n0::/\n"),
            format!("4:name=a:b:/x\n3:memory:/{name}\n"),
        ] {
            assert_eq!(name_in(&groups).as_deref(), Some(name), "{groups}");
        }
        for groups in ["", "0::/", "0::/gatevisor-supervisor", "x", "0::/user.slice/gatevisor-1"] {
            assert_eq!(name_in(groups), None, "{groups}");
        }
    }

    #[test]
    fn a_bound_is_a_number_that_means_something() {
        for (bound, number, right) in [
            (Bound::Pids, 1, true),
            (Bound::Pids, 0, false),
            (Bound::CpuPercent, 250, true),
            (Bound::CpuPercent, 1_000_000, false),
            (Bound::Memory, 1 << 40, true),
            (Bound::Memory, u64::MAX, false),
        ] {
            assert_eq!(bound.check(number).is_ok(), right, "{bound:?} {number}");
        }
    }

    #[test]
    fn only_groups_of_an_earlier_supervisor_of_the_same_scandir_are_outlived() {
        let name = GroupName::parse(OsStr::new("gatevisor-1a.2-77-0-gateway-coder")).unwrap();
        assert!(name.is_first);
        assert!(name.outlives("gatevisor-1a.2-76-0-gateway-coder"));
        assert!(!name.outlives("gatevisor-1a.2-77-5-gateway-coder"));
        assert!(!name.outlives("gatevisor-1a.20-76-0-gateway-coder"));
        assert!(!name.outlives("docker"));
        for wrong in ["gatevisor-1a.2-77-0", "other-1-2-3-x", "gatevisor-1-2-3-../..", ""] {
            assert_eq!(GroupName::parse(OsStr::new(wrong)), None, "{wrong}");
        }
    }
}
