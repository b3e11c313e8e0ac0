#!/usr/bin/env python3
"""Counts the instructions that the supervisor executes for a start, and the pages of the program
that it has in memory.

    bench/instructions.py [--binary FILE] [--starts N] [--rounds R]

Three figures:
  instructions  what `gatevisor supervise` executes in user space for N starts, divided by N: from
                the look at the names of N new services, each logged by the daemon, until all are up
                and it sleeps. bench/steps.c counts them.
  mapped        kB of the program's file in the memory of `gatevisor supervise` after that, by
                smaps. The kernel maps up to 64 kB around each page that is needed, so this grows
                with the program.
  used          kB of those that the starts needed (Referenced, by smaps)

Only the supervisor's own process counts, not the log daemon, the services or the kernel. The
figures depend little on how busy the machine is: only on how many changes one pass of the loop
finds. Each is the least of R rounds. The first is compared with RECORDED, if it has this
architecture. The exit code is 1 if it is more than TOLERANCE above that. Whoever makes the
supervisor cheaper, or dearer for a reason, changes RECORDED and docs/design/benchmarks.md.

valgrind's callgrind would count faster, but cannot run the supervisor: it refuses children that
share memory with their parent until exec, and valgrind 3.19 does not know openat2 either. The
counters of the processor, which perf reads, do not exist in many virtual machines.
"""

import argparse
import contextlib
import os
import pathlib
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time

import peers
from measures import ROOT, Marks, build_payload, family, sweep

WHAT = (
    "instructions a start",
    "kB of the program that are mapped",
    "kB of the program that the starts used",
)
# The first, by architecture, of the program that `make build` makes. What is mapped depends on the
# cache of the kernel.
RECORDED = {"x86_64": (33292,)}
TOLERANCE = 0.03
STARTS = 100
WITHIN_S = 600
# How many looks in a row must find the supervisor asleep.
ASLEEP = 20


def wait_for(what, is_true):
    end = time.monotonic() + WITHIN_S
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(what)
        select.select([], [], [], 0.01)


def are_up(peer, names):
    """Returns whether the status of each service names its process."""
    try:
        return all(peer.pid_of(name) for name in names)
    except OSError:
        return False


def until_asleep(pid):
    """Waits until a process has nothing to do."""
    seen = 0

    def is_asleep():
        nonlocal seen
        state = pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0]
        seen = seen + 1 if state == "S" else 0
        return seen >= ASLEEP

    wait_for("the supervisor does not come to rest", is_asleep)


def publish(peer, names):
    """Makes services, and has the supervisor look once."""
    for name in names:
        peer.service("." + name)
    for name in names:
        os.rename(peer.scandir / ("." + name), peer.scandir / name)
    peer.scan()


def pages(pid, program, *keys):
    """Returns how many kB of a file are in the memory of a process, by these keys of smaps."""
    total, is_its = 0, False
    for line in pathlib.Path("/proc", str(pid), "smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_its = words[-1] == str(program)
        elif is_its and words[0].rstrip(":") in keys:
            total += int(words[1])
    return total


def count(pid, steps, act):
    """Returns how many instructions a process executes while `act` goes on."""
    tracer = subprocess.Popen([str(steps), str(pid)], stdout=subprocess.PIPE, text=True)
    try:
        if tracer.stdout.readline() != "tracing\n":
            sys.exit("the supervisor cannot be traced here; run as root, where ptrace is allowed")
        # On one processor, they take turns without waking another one.
        one = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(pid, one)
        os.sched_setaffinity(tracer.pid, one)
        act()
        until_asleep(pid)
        tracer.terminate()
        return int(tracer.stdout.read())
    finally:
        tracer.kill()
        tracer.wait()


def measure(payload, steps, starts):
    """Returns the figures of one round, in the order of WHAT."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
        work = pathlib.Path(directory)
        marks, peer = Marks(work), peers.Core(work, payload)
        peer.service("first")
        process = subprocess.Popen(peer.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for("the first service did not start", lambda: are_up(peer, ["first"]))
            until_asleep(process.pid)
            names = [f"s{number}" for number in range(starts)]
            # From now on, `Referenced` tells of every page whether it was used since.
            pathlib.Path("/proc", str(process.pid), "clear_refs").write_text("1")

            def start():
                publish(peer, names)
                wait_for("services did not start", lambda: are_up(peer, names))

            instructions = count(process.pid, steps, start)
            if process.poll() is not None:
                sys.exit("the supervisor has not survived the counting")
            mapped = pages(process.pid, peers.BINARY, "Shared_Clean", "Private_Clean")
            used = pages(process.pid, peers.BINARY, "Referenced")
            return instructions / starts, mapped, used
        finally:
            everything = family(process.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                for pid in everything:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
            sweep()
            marks.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, help="another program than target/gatevisor; nothing is compared")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.binary:
        peers.BINARY = options.binary.resolve()
    with tempfile.TemporaryDirectory(prefix="gvsteps") as build:
        build = pathlib.Path(build)
        payload, steps = build_payload(build), build / "steps"
        subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", steps, ROOT / "bench" / "steps.c"], check=True)
        rounds = [measure(payload, steps, options.starts) for _ in range(options.rounds)]
    figures = [min(figure) for figure in zip(*rounds)]
    recorded = RECORDED.get(platform.machine()) if not options.binary and options.starts == STARTS else None
    is_worse = False
    for number, what in enumerate(WHAT):
        all_rounds = ", ".join(f"{figures[number]:.0f}" for figures in rounds)
        compared = ""
        if recorded and number < len(recorded):
            change = figures[number] / recorded[number] - 1
            compared = f"; {change:+.1%} compared with the recorded {recorded[number]}"
            is_worse |= change > TOLERANCE
        print(f"{what}: {figures[number]:.0f} (rounds: {all_rounds}){compared}")
    if is_worse:
        print(f"error: more than {TOLERANCE:.0%} above what is recorded in bench/instructions.py", file=sys.stderr)
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
