#!/usr/bin/env python3
"""Measures supervision side by side with its peers, in one run: gatevisor, s6, runit, supervisord, and plain fork+exec.

    bench/supervision.py [--services N] [--rounds R] [--json FILE]

Each figure is the median of R rounds:
  start     from executing the supervisor to the last service's first instruction, every service with a rotated log
  memory    proportional set size of everything that supervises or logs: in all, and for each service beyond the first
  crash     from SIGKILL of a healthy service to the first instruction of its next process
  register  from publishing one more service directory to its first instruction, beside N others
  idle      context switches of the supervisor in two idle seconds
  stop      from SIGTERM until the supervisor and everything below it has gone, for at most ten seconds

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

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = pathlib.Path("/tmp/.gatevisor-bench")
OURS = ("gatevisor", "logd", "s6-svscan", "s6-supervise", "s6-log", "runsvdir", "runsv", "svlogd", "supervisord")


# How long supervised processes may outlive their supervisor before they count as left behind.
GONE_WITHIN_S = 10


class Marks:
    """A FIFO into which each payload writes one byte when it runs."""

    def __init__(self, directory):
        self.path = directory / "marks"
        os.mkfifo(self.path)
        os.chmod(self.path, 0o666)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        PLACE.write_text(str(self.path))

    def drain(self):
        try:
            while os.read(self.fd, 65536):
                pass
        except BlockingIOError:
            pass

    def wait(self, count, seconds=60):
        end = time.monotonic() + seconds
        while count > 0:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"{count} services did not start")
            count -= len(os.read(self.fd, count))

    def close(self):
        os.close(self.fd)
        PLACE.unlink(missing_ok=True)


def processes():
    """Yields (pid, parent, comm) of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # A process may call itself anything.
                stat = pathlib.Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:
                continue
            comm, rest = stat.split("(", 1)[1].rsplit(")", 1)
            yield int(entry), int(rest.split()[1]), comm


def family(root):
    """Returns {pid: comm} of a process and everything below it."""
    all_of_them = list(processes())
    known = {root}
    while True:
        more = {pid for pid, parent, _ in all_of_them if parent in known} - known
        if not more:
            return {pid: comm for pid, _, comm in all_of_them if pid in known}
        known |= more


def pss_kb(pid):
    try:
        text = pathlib.Path("/proc", str(pid), "smaps_rollup").read_text()
    except OSError:
        return 0
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])


def switches(pid):
    text = pathlib.Path("/proc", str(pid), "status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


class Peer:
    """A supervisor: how to lay out a service, how to start, add, find and stop."""

    name = ""
    timeout = 60

    def __init__(self, work, payload):
        self.work, self.payload = work, payload
        self.scandir = work / "services"
        self.logs = work / "logs"
        self.scandir.mkdir()
        self.logs.mkdir()

    def script(self, path, text):
        path.write_text(text)
        path.chmod(0o755)

    def service(self, name, directory=None):
        place = (directory or self.scandir) / name
        (place / "log").mkdir(parents=True)
        shutil.copy2(self.payload, place / "run")
        self.script(place / "log" / "run", self.log_script(name))
        return place

    def log_script(self, name):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def pid_of(self, name):
        status = (self.scandir / name / "supervise" / "status").read_bytes()
        return int.from_bytes(status[24:32], "big")

    def add(self, name):
        self.service("." + name)
        os.rename(self.scandir / ("." + name), self.scandir / name)
        fd = os.open(self.scandir / ".s6-svscan" / "control", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"a")
        os.close(fd)

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        process.wait(30)


class Gatevisor(Peer):
    name = "gatevisor"
    binary = ROOT / "target" / "gatevisor"

    def log_script(self, name):
        return f'#!{self.binary.resolve()} log\ndirectory = "{self.logs}/{name.strip(".")}"\nforward = "off"\n'

    def command(self):
        return [str(self.binary.resolve()), "supervise", str(self.scandir)]


class S6(Peer):
    name = "s6"

    def log_script(self, name):
        return f'#!/bin/sh\nexec s6-log n10 s1000000 T {self.logs}/{name.strip(".")}\n'

    def command(self):
        return ["s6-svscan", "-c", "4000", str(self.scandir)]


class Runit(Peer):
    name = "runit"

    def log_script(self, name):
        directory = self.logs / name.strip(".")
        directory.mkdir(exist_ok=True)
        return f"#!/bin/sh\nexec svlogd -tt {directory}\n"

    def command(self):
        return ["runsvdir", str(self.scandir)]

    def pid_of(self, name):
        return int((self.scandir / name / "supervise" / "pid").read_text())

    def add(self, name):
        self.service("." + name)
        os.rename(self.scandir / ("." + name), self.scandir / name)

    def stop(self, process):
        process.send_signal(signal.SIGHUP)
        process.wait(30)


class Supervisord(Peer):
    name = "supervisord"

    def service(self, name, directory=None):
        text = (f"[program:{name}]\ncommand={self.payload}\nautorestart=true\nstartsecs=0\n"
                f"stdout_logfile={self.logs}/{name}\nstdout_logfile_maxbytes=1000000\n")
        with open(self.work / "conf", "a") as conf:
            conf.write(text)

    def command(self):
        conf = self.work / "conf"
        head = (f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={self.work}/pid\n"
                f"minfds=8192\n[unix_http_server]\nfile={self.work}/sock\n[supervisorctl]\nserverurl=unix://{self.work}/sock\n"
                "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
                "supervisor.rpcinterface:make_main_rpcinterface\n")
        conf.write_text(head + conf.read_text())
        return ["supervisord", "-c", str(conf)]

    def pid_of(self, name):
        out = subprocess.run(["supervisorctl", "-c", str(self.work / "conf"), "pid", name], capture_output=True, text=True)
        return int(out.stdout)

    def add(self, name):
        self.service(name)
        subprocess.run(["supervisorctl", "-c", str(self.work / "conf"), "update"], check=True, capture_output=True)


def measure(kind, services, payload):
    """Returns the figures of one round."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
        work = pathlib.Path(directory)
        marks = Marks(work)
        peer = kind(work, payload)
        for number in range(services):
            peer.service(f"s{number}")
        command = peer.command()
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            marks.wait(services)
            figures = {"start_ms": (time.monotonic() - began) * 1000}
            select.select([], [], [], 2)
            members = family(process.pid)
            supervising = {pid: comm for pid, comm in members.items() if comm != "run" and comm != payload.name[:15]}
            figures["memory_kb"] = sum(pss_kb(pid) for pid in supervising)
            before = switches(process.pid)
            select.select([], [], [], 2)
            figures["idle_switches"] = switches(process.pid) - before
            victim = peer.pid_of("s0")
            marks.drain()
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            marks.wait(1, 20)
            figures["crash_ms"] = (time.monotonic() - began) * 1000
            began = time.monotonic()
            peer.add("extra")
            marks.wait(1, 20)
            figures["register_ms"] = (time.monotonic() - began) * 1000
            everything = family(process.pid)
            began = time.monotonic()
            peer.stop(process)
            # Some services end after their supervisor. That counts as ended too.
            left = everything
            while left and time.monotonic() - began < GONE_WITHIN_S:
                left = [pid for pid, _, _ in processes() if pid in everything]
                select.select([], [], [], 0.01 if left else 0)
            figures["stop_ms"] = (time.monotonic() - began) * 1000
            figures["left_behind"] = len(left)
            return figures
        finally:
            everything = family(process.pid) if process.poll() is None else {}
            for pid in list(everything) + [process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            sweep(payload)
            process.wait()
            marks.close()


def sweep(payload):
    """Ends payloads and loggers that a supervisor left behind: processes that run a copy of our payload, or log for us."""
    for pid, _, comm in processes():
        try:
            text = pathlib.Path("/proc", str(pid), "cmdline").read_bytes() + os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            continue
        if b"gvbench" in text and pid != os.getpid() and comm != "python3":
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def floor(services, payload):
    """Returns how long plain fork+exec of the same number of payloads takes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
        marks = Marks(pathlib.Path(directory))
        file = pathlib.Path(directory, "run")
        shutil.copy2(payload, file)
        began = time.monotonic()
        process = subprocess.Popen([str(payload), "forkexec", str(services), str(file)], start_new_session=True)
        marks.wait(services)
        figures = {"start_ms": (time.monotonic() - began) * 1000}
        process.wait()
        for pid, _, _ in processes():
            try:
                if os.readlink(f"/proc/{pid}/exe") == str(file):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        marks.close()
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    peers = [kind for kind in (Gatevisor, S6, Runit, Supervisord)
             if kind is Gatevisor or shutil.which({"s6": "s6-svscan", "runit": "runsvdir"}.get(kind.name, kind.name))]
    build = pathlib.Path(tempfile.mkdtemp(prefix="gvpayload"))
    payload = build / "payload"
    subprocess.run(["cc", "-O2", "-static", "-o", payload, ROOT / "bench" / "payload.c"], check=True)
    rounds = {"fork+exec": []} | {kind.name: [] for kind in peers}
    try:
        alone = {kind.name: measure(kind, 1, payload)["memory_kb"] for kind in peers}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            rounds["fork+exec"].append(floor(options.services, payload))
            for kind in peers:
                figures = measure(kind, options.services, payload)
                figures["kb_a_service"] = (figures["memory_kb"] - alone[kind.name]) / (options.services - 1)
                rounds[kind.name].append(figures)
    finally:
        shutil.rmtree(build)
    columns = ["start_ms", "memory_kb", "kb_a_service", "crash_ms", "register_ms", "idle_switches", "stop_ms", "left_behind"]
    print(f"{options.services} services, each with a rotated log; medians of {options.rounds} rounds on {os.cpu_count()} processors\n")
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    result = {}
    for name, figures in rounds.items():
        result[name] = {c: statistics.median(f[c] for f in figures) for c in columns if c in figures[0]}
        print(f"| {name} | " + " | ".join(f"{result[name][c]:.1f}" if c in result[name] else "" for c in columns) + " |")
    ratio = statistics.median(o["start_ms"] / f["start_ms"] for o, f in zip(rounds["gatevisor"], rounds["fork+exec"]))
    print(f"\ngatevisor starts all in {ratio:.2f} times the time of plain fork+exec (median of the rounds' ratios)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"services": options.services, "rounds": rounds, "medians": result}, indent=1))


if __name__ == "__main__":
    main()
