#!/usr/bin/env python3
"""Measures logging side by side with its peers, in one run: gatevisor, s6-log, svlogd, multilog,
and cat.

    bench/logs.py [--megabytes N] [--lines N] [--services N] [--seconds N] [--rounds R]
                  [--json FILE]

The same writer (bench/writer.c) feeds each of them lines of 100 bytes through a pipe. All but cat
stamp the lines and rotate at 1 MB, keeping 10 archives. Figures are medians of R rounds; CPU is
what the logger used, not the writer:
  bulk      as fast as the pipe takes them: MB in a second, and CPU seconds for a gigabyte
  paced     one line in each millisecond: microseconds of CPU for a line
  services  many services that write 10 lines a second each: CPU milliseconds in a second, and
            proportional set size

`gatevisor log` is our logger as a process of its own, as under s6-svscan; `gatevisor logd` is the
daemon that `gatevisor supervise` starts for all services, with the supervisor's own CPU added to
it.

Machines differ and are noisy: compare figures within one run, never across runs. Everything is on
tmpfs.
"""

import argparse
import json
import os
import pathlib
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measures import smaps

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE, KEEP = 1_000_000, 10


def pause(seconds):
    select.select([], [], [], seconds)


def cpu_ns(pids):
    """Returns the nanoseconds that processes ran, with all their threads. (Python lacks
    clock_getcpuclockid(3).)"""
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def pss_kb(pids):
    return sum(smaps(pid, "Pss") for pid in pids)


def last_bytes(file):
    try:
        with open(file, "rb") as opened:
            opened.seek(-4, os.SEEK_END)
            return opened.read()
    except OSError:
        return b""


class Bench:
    """A directory with FIFOs, writers and loggers, all of which end with it."""

    def __init__(self, tools, lines, microseconds):
        self.directory = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvlogs")
        self.work = pathlib.Path(self.directory.name)
        self.tools = tools
        self.processes, self.gate = [], None
        for name in ("go", "done"):
            os.mkfifo(self.work / name)
        self.done = os.open(self.work / "done", os.O_RDONLY | os.O_NONBLOCK)
        self.environment = dict(os.environ, BENCH_GO=str(self.work / "go"), BENCH_DONE=str(self.work / "done"),
                                BENCH_LINES=str(lines), BENCH_US=str(microseconds))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for descriptor in (self.done, self.gate):
            if descriptor is not None:
                os.close(descriptor)
        self.directory.cleanup()

    def spawn(self, command, **options):
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=self.environment, **(quiet | options))
        self.processes.append(process)
        return process.pid

    def go(self):
        """Lets the writers begin, and returns the time of that."""
        # Left open for writers that come late.
        self.gate = os.open(self.work / "go", os.O_WRONLY)
        return time.monotonic()

    def wait(self, current, seconds=120):
        """Waits until the writer and the logger have finished all lines."""
        end = time.monotonic() + seconds
        if not select.select([self.done], [], [], seconds)[0]:
            raise TimeoutError("the writer did not end")
        while time.monotonic() < end:
            # A logger that rotates as soon as a file is full may have the last line in an archive.
            archives = sorted(current.parent.glob("@*"))[-1:]
            if any(last_bytes(file) == b"END\n" for file in [current, *archives]):
                return
            pause(0.001)
        raise TimeoutError(f"{current} does not end as it should")


class Logger:
    """A program that reads lines on its standard input."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def start(self, bench, services):
        """Starts `services` loggers, each with a writer. Returns the processes to measure and the
        first log."""
        pids = []
        for number in range(services):
            log = bench.work / f"log{number}"
            log.mkdir()
            reader, writer = os.pipe()
            pids.append(bench.spawn(self.command(bench, log), stdin=reader, cwd=log))
            bench.spawn([bench.tools["writer"]], stdout=writer)
            os.close(reader)
            os.close(writer)
        return pids, bench.work / "log0" / "current"


class Daemon:
    """`gatevisor logd` under `gatevisor supervise`."""

    name = "gatevisor logd"

    def start(self, bench, services):
        scandir = bench.work / "services"
        for number in range(services):
            place = scandir / f"s{number}"
            (place / "log").mkdir(parents=True)
            shutil.copy2(bench.tools["writer"], place / "run")
            script(place / "log" / "run", settings(bench, bench.work / f"log{number}"))
        supervisor = bench.spawn([bench.tools["gatevisor"], "supervise", scandir], start_new_session=True)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            children = pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
            daemons = [pid for pid in map(int, children) if is_daemon(pid)]
            if len(children) > services and daemons:
                return [supervisor, *daemons], bench.work / "log0" / "current"
            pause(0.01)
        raise TimeoutError("the services did not start")


def is_daemon(pid):
    try:
        return pathlib.Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[1:2] == [b"logd"]
    except OSError:
        return False


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def settings(bench, log):
    return f'#!{bench.tools["gatevisor"]} log\ndirectory = "{log}"\nsize = {SIZE}\nkeep = {KEEP}\nforward = "off"\n'


def ours(bench, log):
    script(log / "run", settings(bench, log))
    return [log / "run", "bench"]


def svlogd(_, log):
    (log / "config").write_text(f"s{SIZE}\nn{KEEP}\n")
    return ["svlogd", "-tt", log]


PEERS = [
    Daemon(),
    Logger("gatevisor log", ours),
    Logger("s6-log", lambda _, log: ["s6-log", f"n{KEEP}", f"s{SIZE}", "T", log]),
    Logger("svlogd", svlogd),
    Logger("multilog", lambda _, log: ["multilog", "t", f"s{SIZE}", f"n{KEEP}", log]),
    Logger("cat", lambda _, log: ["sh", "-c", f"exec cat > {log}/current"]),
]


def bulk(peer, options, tools):
    lines = options.megabytes * 10_000
    with Bench(tools, lines, 0) as bench:
        pids, current = peer.start(bench, 1)
        pause(0.3)
        before, began = cpu_ns(pids), bench.go()
        bench.wait(current)
        seconds = time.monotonic() - began
        return {"bulk_mb_s": options.megabytes / seconds,
                "bulk_cpu_s_gb": (cpu_ns(pids) - before) / 1e6 / options.megabytes}


def paced(peer, options, tools):
    with Bench(tools, options.lines, 1000) as bench:
        pids, current = peer.start(bench, 1)
        pause(0.3)
        before = cpu_ns(pids)
        bench.go()
        bench.wait(current)
        return {"paced_us_line": (cpu_ns(pids) - before) / 1000 / options.lines}


def services(peer, options, tools):
    with Bench(tools, 0, 100_000) as bench:
        pids, _ = peer.start(bench, options.services)
        pause(1)
        bench.go()
        pause(1)
        before, began = cpu_ns(pids), time.monotonic()
        pause(options.seconds)
        cpu_ms = (cpu_ns(pids) - before) / 1e6 / (time.monotonic() - began)
        # Only the supervisor's CPU is measured, not its memory: s6 has a supervisor as well.
        loggers = pids if not isinstance(peer, Daemon) else pids[1:]
        return {"many_cpu_ms_s": cpu_ms, "many_pss_kb": pss_kb(loggers)}


COLUMNS = {"bulk_mb_s": bulk, "bulk_cpu_s_gb": bulk, "paced_us_line": paced,
           "many_cpu_ms_s": services, "many_pss_kb": services}
UNLIKE = {"cat": [services], "gatevisor log": [services]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--lines", type=int, default=3000)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target" / "gatevisor")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    there = [peer for peer in PEERS if peer.name.startswith("gatevisor") or shutil.which(peer.name)]
    missing = [peer.name for peer in PEERS if peer not in there]
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
    build = pathlib.Path(tempfile.mkdtemp(prefix="gvwriter"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rounds = {peer.name: [] for peer in there}
    try:
        tools = {"gatevisor": str(options.binary.resolve()), "writer": str(build / "writer")}
        subprocess.run(["cc", "-O2", "-static", "-o", tools["writer"], ROOT / "bench" / "writer.c"], check=True)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for peer in there:
                figures = {}
                for measure in (bulk, paced, services):
                    if measure not in UNLIKE.get(peer.name, []):
                        figures |= measure(peer, options, tools)
                rounds[peer.name].append(figures)
    finally:
        shutil.rmtree(build)
    print(f"{options.megabytes} MB in bulk, {options.lines} paced lines, {options.services} services; "
          f"medians of {options.rounds} rounds on {os.cpu_count()} processors\n")
    print("| | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    result = {}
    for name, figures in rounds.items():
        result[name] = {c: statistics.median(f[c] for f in figures) for c in COLUMNS if c in figures[0]}
        print(f"| {name} | " + " | ".join(f"{result[name][c]:.2f}" if c in result[name] else "" for c in COLUMNS) + " |")
    if "s6-log" in rounds:
        print("\ns6-log's CPU and memory beside ours (medians of the rounds' ratios):\n")
        for name in (peer.name for peer in there if peer.name.startswith("gatevisor")):
            ratios = [f"{c} {statistics.median(s[c] / o[c] for s, o in zip(rounds['s6-log'], rounds[name])):.1f}"
                      for c in COLUMNS if c != "bulk_mb_s" and c in result[name]]
            print(f"- {name}: " + ", ".join(ratios))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"options": {k: str(v) for k, v in vars(options).items()},
                                                          "rounds": rounds, "medians": result}, indent=1))


if __name__ == "__main__":
    main()
