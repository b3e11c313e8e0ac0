#!/usr/bin/env python3
"""Measures supervision beside s6, runit, supervisord and plain fork+exec, in one run.

    bench/supervision.py [--services N] [--rounds R] [--json FILE] [--write]

Each figure is the median of R rounds, in each of which every supervisor has its turn:
  start      from executing the supervisor to the first instruction of the last of N services, all
             logged
  × floor    the same, divided by plain fork+exec of the same program in the same round
  memory     proportional and private memory of all processes that are not services; a service: what
             N services add to one, divided
  open files descriptors of the same processes for a service
  crash      from SIGKILL of a service that has run for two seconds to the first instruction of its
             next process: the median and the 99th percentile of 10 deaths in each round
  register   from publishing one more service to its first instruction
  idle       context switches of the supervisor in two idle seconds
  stop       from SIGTERM until the supervisor has gone, and until everything below it has; also
             with 100 services, and with one
The last table holds the goals of this project against these figures, whoever made them.
The commands are what users call, each a whole process, the median of 20 calls beside N services, or
of 10 that ask or register; `true`, called in the same way, is the floor. All services run the same
small static program, which prints a line. Everything is on tmpfs.

Machines differ and are noisy: compare figures within one run, never across runs. With --write, the
results replace the sections between the marks in docs/design/benchmarks.md.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import peers
from measures import (ROOT, Marks, build_payload, descriptors, family, is_payload, smaps, sweep, switches,
                      until_gone)

PAGE = ROOT / "docs" / "design" / "benchmarks.md"
BEGIN, END = "<!-- supervision:begin -->", "<!-- supervision:end -->"
# How long supervised processes may outlive their supervisor before they count as left behind.
GONE_WITHIN_S = 10
CRASHES = 10
# How often the end of few services is measured, and of whose.
ENDS = 5
ENDING = ("gatevisor supervise", "gatevisor up", "s6")
END_COLUMNS = {"stop_1_ms": "1 service", "stop_100_ms": "100 services"}
CALLS = 20
SETTLE_S = 2
FLOOR, FLOOR_LOGGED = "fork+exec", "fork+exec, each with an s6-log"
COLUMNS = {
    "start_ms": "start, ms", "times": "× floor", "crash_ms": "crash, ms",
    "crash_p99_ms": "crash p99, ms", "register_ms": "register, ms", "idle_switches": "idle", "stop_ms": "stop, ms",
    "gone_ms": "all gone, ms",
}
MEMORY = {
    "pss_kb": "proportional, kB", "private_kb": "private, kB", "base_kb": "with one service, kB",
    "kb_a_service": "kB a service", "files_a_service": "open files a service",
}


# The goals for `up` and for the engine alone, and what keeps a missed one from being met. A goal in
# milliseconds was set on another machine, so the ones for starts are multiples of the floor.
GOALS = (
    ("start of 500, engine, × fork+exec", "gatevisor supervise", "times", 1.6,
     "each service has its directory opened and checked, its lock, FIFO and status made, and its pipe handed to the log daemon"),
    ("start of 500, `up`, × fork+exec", "gatevisor up", "times", 2.5,
     "files for each slot, and the interpreter: it is executed, reads its TOML, and executes the gateway"),
    ("`gateway register NAME --start`, ms", "gatevisor up", "register and start one", 4,
     "the profile is looked at, eleven files are published, and the command waits until the gateway is up"),
    ("`status` of 500, ms", "gatevisor up", "state of all", 10,
     "some hundred system calls a gateway, a third of them to hold the files of its slot against the definition"),
    ("`status --json` of 500, ms", "gatevisor up", "state of all, JSON", 10, "as above"),
    ("end of one service, engine, ms", "gatevisor supervise", "stop_1_ms", 1,
     "not found out"),
    ("end of 100 services, engine, ms", "gatevisor supervise", "stop_100_ms", 8, "the kills, the last lines of each log, and looking for survivors; not found out further"),
    ("end of 100 services, `up`, ms", "gatevisor up", "stop_100_ms", 10, "in a trace of one service, the system calls end after 8 ms; the rest was not found out"),
    ("kB a service, engine", "gatevisor supervise", "kb_a_service", 2.0, "not found out"),
    ("open files a service, engine", "gatevisor supervise", "files_a_service", 4,
     "the service directory, `supervise`, its lock and FIFO, the log's directory and both ends of its pipe in the supervisor; the pipe, the log directory, its lock and `current` in the log daemon"),
)


def goals(result, found):
    """Returns the goals, each with its figure, and with what bounds it if it is missed."""
    text = "| goal | at most | measured | | bounded by |\n|---|---|---|---|---|\n"
    for what, name, key, most, bound in GOALS:
        value = result.get(name, {}).get(key)
        value = found.get(name, {}).get(key) if value is None else value
        if value is None:
            text += f"| {what} | {most} | not measured | | |\n"
        elif value <= most:
            text += f"| {what} | {most} | {value:.1f} | met | |\n"
        else:
            text += f"| {what} | {most} | {value:.1f} | missed: × {value / most:.1f} | {bound} |\n"
    return text


def crashes(peer, marks, count):
    """Returns the times of deaths, each of another service, in milliseconds."""
    times = []
    for number in range(min(count, CRASHES)):
        victim = peer.pid_of(f"s{number}")
        marks.drain()
        began = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
        times.append((marks.wait(1, 20) - began) / 1e6)
    return sorted(times)


def calls(peer, marks):
    """Returns the median time of each command that users call, in milliseconds."""
    found = {}
    for what, words in peer.commands().items():
        times = []
        for number in range(CALLS if what in ("start one", "stop one") else CALLS // 2):
            if what == "start one":
                subprocess.run(peer.commands()["stop one"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
            elif what == "stop one" and number > 0:
                subprocess.run(peer.commands()["start one"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
            if what == "register and start one":
                peer.prepare(f"made{number}")
            marks.drain()
            exact = [word.replace("NAME", f"made{number}") for word in words]
            began = time.monotonic_ns()
            subprocess.run(exact, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            times.append((time.monotonic_ns() - began) / 1e6)
            if what in ("start one", "register and start one"):
                marks.wait(1, 20)
        found[what] = statistics.median(times)
    return found


def call_floor():
    times = []
    for _ in range(CALLS):
        began = time.monotonic_ns()
        subprocess.run(["true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append((time.monotonic_ns() - began) / 1e6)
    return statistics.median(times)


@contextlib.contextmanager
def supervised(kind, services, payload):
    """Has a supervisor start so many services; returns it, its process, what the services note, and
    when it was executed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
        work = pathlib.Path(directory)
        marks, peer = Marks(work), kind(work, payload)
        for number in range(services):
            peer.service(f"s{number}")
        command = peer.command()
        began = time.monotonic_ns()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        try:
            yield peer, process, marks, began
        finally:
            for pid in list(family(process.pid) if process.poll() is None else {}) + [process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            sweep()
            process.wait()
            marks.close()


def ended(peer, process):
    """Ends a supervisor; returns the milliseconds until it has gone, and when it was told to."""
    began = time.monotonic_ns()
    peer.stop(process)
    process.wait(30)
    return (time.monotonic_ns() - began) / 1e6, began


def measure(kind, services, payload, with_calls=False):
    """Returns the figures of one round."""
    with supervised(kind, services, payload) as (peer, process, marks, began):
        figures = {"start_ms": (marks.wait(services) - began) / 1e6}
        select.select([], [], [], SETTLE_S)
        own = [pid for pid in family(process.pid) if not is_payload(pid)]
        figures["pss_kb"] = sum(smaps(pid, "Pss") for pid in own)
        figures["private_kb"] = sum(smaps(pid, "Private_Clean", "Private_Dirty") for pid in own)
        figures["files"] = sum(map(descriptors, own))
        before = switches(process.pid)
        select.select([], [], [], 2)
        figures["idle_switches"] = switches(process.pid) - before
        if services > 1:
            figures["crashes"] = crashes(peer, marks, services)
            began = time.monotonic_ns()
            peer.add("extra")
            figures["register_ms"] = (marks.wait(1, 20) - began) / 1e6
        if with_calls:
            figures["calls"] = calls(peer, marks)
        everything = set(family(process.pid)) - {process.pid}
        figures["stop_ms"], began = ended(peer, process)
        # Some services end after their supervisor. That counts as ended too.
        figures["left_behind"] = until_gone(everything, GONE_WITHIN_S)
        figures["gone_ms"] = (time.monotonic_ns() - began) / 1e6
        return figures


def end_of(kind, services, payload):
    """Returns the median time from SIGTERM until a supervisor of so many services has gone, in
    milliseconds."""
    times = []
    for _ in range(ENDS):
        with supervised(kind, services, payload) as (peer, process, marks, _began):
            marks.wait(services)
            select.select([], [], [], SETTLE_S / 2)
            times.append(ended(peer, process)[0])
    return statistics.median(times)


def floor(services, payload, logger=None):
    """Returns how long plain fork+exec of the same number of payloads takes, each with a logger if
    there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
        marks, place = Marks(pathlib.Path(directory)), pathlib.Path(directory)
        shutil.copy2(payload, place / "run")
        more = [logger, str(place)] if logger else []
        began = time.monotonic_ns()
        process = subprocess.Popen([str(payload), "forkexec", str(services), str(place / "run"), *more], start_new_session=True,
                                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            return {"start_ms": (marks.wait(services) - began) / 1e6}
        finally:
            process.wait()
            sweep()
            marks.close()


def median(rounds, key):
    values = [figures[key] for figures in rounds if key in figures]
    return statistics.median(values) if values else None


def summary(rounds, alone, ends, services):
    """Returns {name: {column: median}}."""
    result = {}
    floors = [figures["start_ms"] for figures in rounds[FLOOR]]
    for name, all_rounds in rounds.items():
        row = {key: median(all_rounds, key) for key in (*COLUMNS, *MEMORY)}
        row["times"] = statistics.median(figures["start_ms"] / plain for figures, plain in zip(all_rounds, floors))
        deaths = sorted(death for figures in all_rounds for death in figures.get("crashes", []))
        if deaths:
            row["crash_ms"] = statistics.median(deaths)
            row["crash_p99_ms"] = deaths[min(len(deaths) - 1, len(deaths) * 99 // 100)]
        if name in alone:
            one = alone[name]
            row["base_kb"] = one["pss_kb"]
            row["kb_a_service"] = (row["pss_kb"] - one["pss_kb"]) / (services - 1)
            row["files_a_service"] = (median(all_rounds, "files") - one["files"]) / (services - 1)
        for number, stopped in ends.get(name, {}).items():
            row[f"stop_{number}_ms"] = stopped
        row["left_behind"] = max((figures.get("left_behind", 0) for figures in all_rounds), default=0)
        result[name] = row
    return result


def table(result, columns):
    text = "| | " + " | ".join(columns.values()) + " |\n" + "|---" * (len(columns) + 1) + "|\n"
    for name, row in result.items():
        if any(row.get(key) is not None for key in columns):
            show = lambda key: "" if row.get(key) is None else f"{row[key]:.2f}" if key == "times" else f"{row[key]:.1f}"
            text += f"| {name} | " + " | ".join(map(show, columns)) + " |\n"
    return text


def table_of_calls(found, plain):
    whats = ["register and start one", "start one", "stop one", "state of all", "state of all, JSON"]
    text = "| | " + " | ".join(whats) + " |\n" + "|---" * (len(whats) + 1) + "|\n"
    text += f"| `true` |" + f" {plain:.1f} |" * len(whats) + "\n"
    for name, by_what in found.items():
        text += f"| {name} | " + " | ".join(f"{by_what[what]:.1f}" if what in by_what else "" for what in whats) + " |\n"
    return text


def page(options, result, found, plain, loads):
    """Returns the section of the page."""
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    versions = "".join(f"- **{kind.name}**: {kind.version()}\n" for kind in peers.present())
    left = "".join(f"- **{name}** left {row['left_behind']:.0f} processes behind.\n" for name, row in result.items() if row["left_behind"])
    return (f"Taken on {day}, on {os.cpu_count()} processors, with a load average of {loads[0]:.1f} at the beginning and "
            f"{loads[1]:.1f} at\nthe end. {options.services} services, each logged, medians of {options.rounds} rounds.\n\n"
            f"{table(result, COLUMNS)}\n{table(result, MEMORY)}\nCommands, each a whole process, in milliseconds, beside "
            f"{options.services} services:\n\n{table_of_calls(found, plain)}\n{versions}{left}\n"
            f"The end after SIGTERM, in milliseconds, medians of {ENDS}:\n\n{table(result, END_COLUMNS)}\n"
            f"The goals that this project has set itself:\n\n{goals(result, found)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", help="a peer to be measured; all, if none is named")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds = [kind for kind in peers.present() if not options.only or kind.name in options.only]
    loads = [os.getloadavg()[0]]
    build = pathlib.Path(tempfile.mkdtemp(prefix="gvpayload"))
    rounds, found = {FLOOR: [], FLOOR_LOGGED: []} | {kind.name: [] for kind in kinds}, {}
    try:
        payload, logger = build_payload(build), shutil.which("s6-log")
        alone = {kind.name: measure(kind, 1, payload) for kind in kinds}
        ends = {kind.name: {number: end_of(kind, number, payload) for number in (1, 100)} for kind in kinds if kind.name in ENDING}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            rounds[FLOOR].append(floor(options.services, payload))
            if logger:
                rounds[FLOOR_LOGGED].append(floor(options.services, payload, logger))
            for kind in kinds:
                is_last = number == options.rounds - 1
                figures = measure(kind, options.services, payload, is_last)
                rounds[kind.name].append(figures)
                if figures.get("calls"):
                    found[kind.name] = figures["calls"]
        plain = call_floor()
    finally:
        shutil.rmtree(build)
    loads.append(os.getloadavg()[0])
    result = summary({name: all_rounds for name, all_rounds in rounds.items() if all_rounds}, alone, ends, options.services)
    text = page(options, result, found, plain, loads)
    print(text)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"services": options.services, "rounds": rounds, "medians": result}, indent=1))
    if options.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
