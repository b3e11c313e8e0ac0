//! What the kernel says about the processes of a service.
//!
//! *Lives here:* processes, threads, open files and memory, each as text for people. *Does not live
//! here:* which processes those are; sockets (`sockets`); how long all this may take (`bounded`).
//!
//! The first parts need nothing of the process itself. Command lines are in its memory, and a
//! reader waits for whatever else holds that memory, so they are a part of their own.
//!
//! **Source:** proc(5).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gatevisor_sys::proc::{Process, StatLine};

use super::sockets::SocketTable;
use crate::files::read_bounded;
use crate::tree::{in_order, memory_bytes};

/// The most processes of which threads, files and memory are shown.
const PROCESSES: usize = 64;
/// The most threads of one process that are shown.
const THREADS: usize = 256;
/// The most open files of one process that are shown.
const FILES: usize = 1024;
/// The most bytes of one file of `/proc` that are read.
const FILE_BYTES: usize = 64 << 10;
/// What is shown of the memory of a process.
const MEMORY: [&str; 14] = [
    "State",
    "Threads",
    "VmPeak",
    "VmSize",
    "VmHWM",
    "VmRSS",
    "RssAnon",
    "RssShmem",
    "VmSwap",
    "SigPnd",
    "SigBlk",
    "SigCgt",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
];

fn of_process(pid: i32, name: &str) -> PathBuf {
    format!("/proc/{pid}/{name}").into()
}

/// Returns what a file of `/proc` holds, or why it cannot be read.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
    match read_bounded(path, FILE_BYTES) {
        Ok(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(None) => Err("there is none".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns one line of text, without its end.
fn word_of(path: &Path) -> String {
    text_of(path).map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned())
}

/// Writes the processes as a tree: children are below their parent, and indented.
pub(super) fn tree(members: &[Process], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>8} {:>8} {:>8} STATE {:>9} {:>9}  COMMAND (waits in)",
        "PID", "PARENT", "SESSION", "MEMORY", "CPU"
    )?;
    for (process, depth) in in_order(members) {
        let state = state_of(process.pid);
        let waits = word_of(&of_process(process.pid, "wchan"));
        let command = String::from_utf8_lossy(&process.command);
        let indent = "  ".repeat(depth.min(20));
        writeln!(
            out,
            "{:>8} {:>8} {:>8} {state:5} {:>6} MB {:>7}.{} s  {indent}{command} ({waits})",
            process.pid,
            process.parent,
            process.session,
            memory_bytes(process) >> 20,
            process.cpu_ms / 1000,
            process.cpu_ms % 1000 / 100,
        )?;
    }
    Ok(())
}

/// Returns the letter of a process's state.
fn state_of(pid: i32) -> String {
    state_in(&word_of(&of_process(pid, "stat")))
}

/// Returns the letter behind the last parenthesis.
fn state_in(stat: &str) -> String {
    StatLine::parse(stat.as_bytes())
        .and_then(|line| line.state())
        .map_or_else(|| "?".to_owned(), String::from)
}

/// Writes each thread: its state, where it waits in the kernel, and the kernel's stack if that can
/// be read.
pub(super) fn threads(members: &[Process], out: &mut dyn Write) -> io::Result<()> {
    let mut refused = None;
    for process in members.iter().take(PROCESSES) {
        heading(process, out)?;
        let tasks = of_process(process.pid, "task");
        let mut all = numbers_in(&tasks);
        all.sort_unstable();
        for thread in all.iter().take(THREADS) {
            one_thread(&tasks.join(thread.to_string()), *thread, &mut refused, out)?;
        }
        more(all.len(), THREADS, "threads", out)?;
    }
    more(members.len(), PROCESSES, "processes", out)?;
    if let Some(why) = refused {
        writeln!(out, "\nKernel stacks cannot be read: {why}")?;
    }
    Ok(())
}

fn one_thread(task: &Path, thread: i32, refused: &mut Option<String>, out: &mut dyn Write) -> io::Result<()> {
    let (name, stat) = (word_of(&task.join("comm")), word_of(&task.join("stat")));
    let (waits, call) = (word_of(&task.join("wchan")), word_of(&task.join("syscall")));
    writeln!(out, "  {thread:>8} {} {name}, waits in {waits}, system call {call}", state_in(&stat))?;
    match text_of(&task.join("stack")) {
        Ok(stack) => stack.lines().try_for_each(|line| writeln!(out, "           {line}")),
        Err(why) => {
            refused.get_or_insert(why);
            Ok(())
        }
    }
}

/// Writes what each process has open.
pub(super) fn files(members: &[Process], out: &mut dyn Write) -> io::Result<()> {
    for process in members.iter().take(PROCESSES) {
        heading(process, out)?;
        let directory = of_process(process.pid, "fd");
        if let Err(error) = fs::read_dir(&directory) {
            writeln!(out, "  cannot be looked at: {error}")?;
            continue;
        }
        let sockets = SocketTable::of(process.pid);
        let mut all = numbers_in(&directory);
        all.sort_unstable();
        for number in all.iter().take(FILES) {
            let Ok(target) = fs::read_link(directory.join(number.to_string())) else { continue };
            let target = target.to_string_lossy();
            let socket = sockets.named(&target).map_or_else(String::new, |socket| format!(" {socket}"));
            writeln!(out, "  {number:>5} {target}{socket}")?;
        }
        more(all.len(), FILES, "files", out)?;
    }
    more(members.len(), PROCESSES, "processes", out)
}

/// Writes the memory, the signals and the switches of each process.
pub(super) fn memory(members: &[Process], out: &mut dyn Write) -> io::Result<()> {
    for process in members.iter().take(PROCESSES) {
        heading(process, out)?;
        let status = text_of(&of_process(process.pid, "status")).unwrap_or_else(|why| why);
        for line in status.lines() {
            if line.split(':').next().is_some_and(|name| MEMORY.contains(&name)) {
                writeln!(out, "  {line}")?;
            }
        }
    }
    more(members.len(), PROCESSES, "processes", out)
}

/// Writes what each process was executed with.
pub(super) fn commands(members: &[Process], out: &mut dyn Write) -> io::Result<()> {
    members.iter().try_for_each(|process| writeln!(out, "{:>8} {}", process.pid, process.words()))
}

fn heading(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "process {} ({})", process.pid, String::from_utf8_lossy(&process.command))
}

/// Writes how many are not shown, if not all are.
fn more(all: usize, shown: usize, what: &str, out: &mut dyn Write) -> io::Result<()> {
    match all.checked_sub(shown) {
        None | Some(0) => Ok(()),
        Some(left) => writeln!(out, "  and {left} more {what}"),
    }
}

fn numbers_in(directory: &Path) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            session: 5,
            began: u64::from(pid.unsigned_abs()),
            command: format!("p{pid}").into_bytes(),
            cpu_ms: 1500,
            has_memory: true,
            resident_pages: 512,
            is_stopped: false,
        }
    }

    #[test]
    fn each_process_is_shown_below_its_parent_and_a_circle_ends() {
        let members = [process(7, 5), process(5, 1), process(9, 7), process(6, 5), process(80, 1)];
        let order: Vec<(i32, usize)> = in_order(&members).iter().map(|(p, depth)| (p.pid, *depth)).collect();
        assert_eq!(order, [(5, 0), (6, 1), (7, 1), (9, 2), (80, 0)]);
        let mut text = Vec::new();
        tree(&members, &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("1.5 s    p6"));
        assert!(in_order(&[process(1, 2), process(2, 1)]).is_empty());
    }

    #[test]
    fn this_process_has_threads_files_and_memory() {
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = |part: fn(&[Process], &mut dyn Write) -> io::Result<()>| {
            let mut text = Vec::new();
            part(std::slice::from_ref(&own), &mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        assert!(shown(threads).contains("waits in"), "{}", shown(threads));
        assert!(shown(files).contains(&format!("tcp 127.0.0.1:{port} listens")), "{}", shown(files));
        assert!(shown(memory).contains("VmRSS"), "{}", shown(memory));
        assert!(shown(commands).contains(&own.pid.to_string()));
    }
}
