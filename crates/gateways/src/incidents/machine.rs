//! The load of the machine, and the control group of a service.
//!
//! *Lives here:* the files of the kernel that are read. *Does not live here:* making groups
//! (`gatevisor-slot`).
//!
//! **Source:** the kernel's *Control Group v2* and *Pressure Stall Information*.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::group;
use rustix::fs::fstatvfs;

use super::processes::text_of;

/// Files that tell how busy a machine is.
const MACHINE: [&str; 5] =
    ["/proc/loadavg", "/proc/uptime", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io"];
/// Lines of `/proc/meminfo` that are shown.
const MEMORY: [&str; 6] = ["MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree", "Dirty"];
/// Files of a control group, of either version.
const GROUP: [&str; 18] = [
    "cgroup.events",
    "memory.current",
    "memory.high",
    "memory.max",
    "memory.events",
    "memory.pressure",
    "cpu.max",
    "cpu.stat",
    "cpu.pressure",
    "io.pressure",
    "pids.current",
    "pids.max",
    "pids.events",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
    "memory.oom_control",
    "cpu.cfs_quota_us",
];

/// Writes how busy the machine is, and how much space the file system of the home has left.
pub(super) fn machine(home: &Path, out: &mut dyn Write) -> io::Result<()> {
    for path in MACHINE {
        show(Path::new(path), out)?;
    }
    let memory = text_of(Path::new("/proc/meminfo")).unwrap_or_default();
    for line in memory.lines().filter(|line| MEMORY.iter().any(|name| line.starts_with(name))) {
        writeln!(out, "{line}")?;
    }
    // The file system comes last, because it may not answer.
    match by_path::directory(home).and_then(fstatvfs) {
        Ok(room) => {
            let megabytes = |blocks: u64| blocks.saturating_mul(room.f_frsize) >> 20;
            writeln!(
                out,
                "home: {} MB free of {} MB, {} files",
                megabytes(room.f_bavail),
                megabytes(room.f_blocks),
                room.f_favail
            )
        }
        Err(errno) => writeln!(out, "home: {errno}"),
    }
}

/// Writes the files of the control groups of a process.
pub(super) fn groups(leader: i32, out: &mut dyn Write) -> io::Result<()> {
    show(&PathBuf::from(format!("/proc/{leader}/cgroup")), out)?;
    for directory in group::of_process(leader) {
        writeln!(out, "\n{}", directory.display())?;
        for name in GROUP {
            // Each version, and each group, has only some of the files.
            if let Ok(text) = text_of(&directory.join(name)) {
                writeln!(out, "{name}: {}", text.trim_end().replace('\n', "; "))?;
            }
        }
    }
    Ok(())
}

fn show(path: &Path, out: &mut dyn Write) -> io::Result<()> {
    match text_of(path) {
        Ok(text) => text.lines().try_for_each(|line| writeln!(out, "{}: {line}", path.display())),
        Err(why) => writeln!(out, "{}: {why}", path.display()),
    }
}
