#!/usr/bin/env python3
"""Measures how gateways are followed: detection, recovery, false restarts, and what the watcher
costs.

    bench/liveness.py [--program FILE] [--part NAME …] [--gateways N] [--minutes M] [--seconds S]
                      [--processors P] [--write]
    bench/liveness.py --part boot --gateways 500 --parallel 16

  freeze   A signal stops one gateway, and another one, which handles SIGTERM in its event loop,
           blocks that. Seconds until each is `unresponsive`, and until a new process of it works,
           with the default settings: at most 120. Two others freeze before they first show life: a
           signal stops one, and one blocks and ignores SIGTERM.
  cost     N idle gateways (100): processor time of the watcher, and how often the supervisor wakes
           up, with and without liveness.
  load     N gateways (20) that work as hard as they can on P processors (2) for M minutes (15): the
           number of restarts, each of which is false.
  boot     N gateways (500) that are probed and start at boot, --parallel (16) at a time: seconds
           until all work, false restarts, and what the supervisor and the watcher use meanwhile and
           afterwards, with their open descriptors.

The gateways are small programs with an event loop that rewrites a heartbeat and answers HTTP. The
benchmark reads their records as any client does. Machines differ and are noisy: compare figures
within one run, never across runs. Run `make build` first. With --write, the results replace the
section "Measured" of docs/reference/live.md, with the load of the machine while they were taken.
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from measures import agent_definition, descriptors

AGENT = r'''
import asyncio, hashlib, json, os, pathlib, signal, sys, time
home, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def asked(what):
    there = (home / what).exists()
    (home / what).unlink(missing_ok=True)
    return there
if asked("stop-at-start"):
    os.kill(os.getpid(), signal.SIGSTOP)
if asked("block-at-start"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1e6)
busy = os.environ.get("BENCH_BUSY") == "1"
async def beats():
    while True:
        new = home / ".beat"
        new.write_text(json.dumps({"pid": os.getpid(), "at": time.time()}))
        new.rename(home / "beat")
        if asked("block"):
            time.sleep(1e6)
        await asyncio.sleep(5)
async def answer(reader, writer):
    await reader.read(1024)
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
    await writer.drain()
    writer.close()
async def work():
    while True:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            hashlib.sha256(b"x" * 4096).digest()
        await asyncio.sleep(0)
async def main():
    # As real agents do: a loop that is blocked never handles it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    await asyncio.start_server(answer, "127.0.0.1", port)
    await asyncio.gather(beats(), *([work()] if busy else []))
asyncio.run(main())
'''

FOLLOWED = '''
[gateway.live]
policy = "${BENCH_POLICY:-restart}"
heartbeat = { file = "{profile-home}/beat" }
http = { url = "http://127.0.0.1:${PORT}/health" }
'''


PAGE = pathlib.Path(__file__).parent.parent / "docs/reference/live.md"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
RESULTS = []


def result(what, value):
    """Prints a result, and keeps it for the page."""
    RESULTS.append((what, value))
    print(f"  result: {what}: {value}", flush=True)


def write_page(loads):
    """Replaces the section of the page by the results."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    rows = "".join(f"| {what} | {value} |\n" for what, value in RESULTS)
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    said = (f"Taken on {day}, on {os.cpu_count()} processors, with a load average of {loads[0]:.1f} at the beginning and "
            f"{loads[1]:.1f} at\nthe end.")
    table = f"| what | result |\n|---|---|\n{rows}"
    PAGE.write_text(f"{before}{BEGIN}\n{said}\n\n{table}{END}{after}")


def free_ports(count):
    held = []
    for _ in range(count):
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        held.append(one)
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def stat(pid):
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()


def processor_seconds(pid):
    words = stat(pid)
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wake_ups(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


class Bed:
    """A home with gateways and a supervisor. Nothing of it is left at the end."""

    def __init__(self, program, gateways, more="", **environment):
        self.place = tempfile.TemporaryDirectory(prefix="gatevisor-bench-")
        root = pathlib.Path(self.place.name)
        self.home = root / "home"
        (root / "agent.py").write_text(AGENT)
        command = [sys.executable, str(root / "agent.py"), "{profile-home}", "${PORT}"]
        text = agent_definition(command, f'environment-files = ["{{profile-home}}/.env"]\n{more}', FOLLOWED)
        (root / "agent.toml").write_text(text)
        self.names = [f"g{number:03}" for number in range(gateways)]
        for name, port in zip(self.names, free_ports(gateways)):
            profile = self.home / "profiles" / name
            profile.mkdir(parents=True)
            (profile / "agent.conf").touch()
            (profile / ".env").write_text(f"PORT={port}\n")
            (profile / "gateway_state.json").write_text('{"desired_state": "running", "gateway_state": "running"}')
        self.words = [program, "--home", str(self.home), "--agent", str(root / "agent.toml")]
        self.said = open(root / "said", "w+")
        self.supervisor = subprocess.Popen([*self.words, "up", "--quiet"], stdin=subprocess.DEVNULL, stdout=self.said,
                                           stderr=self.said, env={**os.environ, **environment})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait()
        self.said.close()
        self.place.cleanup()

    def live(self, file):
        return self.home / "run/service/.live" / file

    def watcher(self):
        return int(self.live(".watcher").read_text().split()[1])

    def record(self, name):
        try:
            return json.loads(self.live(f"gateway-{name}").read_text())
        except (OSError, ValueError):
            return {}

    def until(self, what, condition, seconds=600):
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds or self.supervisor.poll() is not None:
                self.said.seek(0)
                raise SystemExit(f"waited in vain for {what}:\n{self.said.read()[-3000:]}")
            time.sleep(0.1)
        return time.monotonic() - began

    def all_live(self, seconds=600):
        is_live = lambda name: self.record(name).get("state") == "live"
        return self.until("gateways that work", lambda: all(map(is_live, self.names)), seconds)

    def restarted(self):
        files = (self.home / "run/service").glob("gateway-*/data/live-restart")
        return [json.loads(file.read_text()) for file in files]


def freeze(program, _options):
    slowest = 0
    with Bed(program, 5) as bed:
        bed.all_live()
        for name, how in [("g000", "stopped by a signal"), ("g001", "blocked event loop")]:
            pid = bed.record(name)["pid"]
            if name == "g000":
                os.kill(pid, signal.SIGSTOP)
            else:
                (bed.home / "profiles" / name / "block").touch()
                bed.until("the block", lambda: not (bed.home / "profiles" / name / "block").exists())
            found = bed.until("detection", lambda: bed.record(name).get("state") == "unresponsive")
            again = bed.until("recovery", lambda: (bed.record(name).get("state"), bed.record(name).get("pid") != pid) == ("live", True))
            slowest = max(slowest, found + again)
            evidence = len(list((bed.home / "profiles" / name / "logs/incidents").iterdir()))
            result(f"{how}: unresponsive after", f"{found:.0f} s")
            result(f"{how}: works again after", f"{found + again:.0f} s, with {evidence} incident")
        freeze_starts(bed)
        others = len(bed.restarted()) - 4
        result("false restarts of the other one", others)
        return others == 0 and slowest <= 120


def freeze_starts(bed):
    for name, file, how in [("g002", "stop-at-start", "stopped by a signal"), ("g003", "block-at-start", "blocked")]:
        asked = bed.home / "profiles" / name / file
        asked.touch()
        os.kill(bed.record(name)["pid"], signal.SIGTERM)
        bed.until("the start", lambda: not asked.exists())
        bed.until("the record of the start", lambda: bed.record(name).get("state") == "starting")
        pid = bed.record(name)["pid"]
        found = bed.until("detection", lambda: bed.record(name).get("state") == "unresponsive")
        again = bed.until("recovery", lambda: (bed.record(name).get("state"), bed.record(name).get("pid") != pid) == ("live", True))
        result(f"{how} before it showed life: unresponsive after", f"{found:.0f} s")
        result(f"{how} before it showed life: works again after", f"{found + again:.0f} s")


def cost(program, options):
    count = options.gateways or 100
    seen = {}
    for policy in ["off", "restart"]:
        with Bed(program, count, BENCH_POLICY=policy) as bed:
            if policy == "restart":
                bed.all_live()
            else:
                time.sleep(5 + count / 5)
            pids = {"supervisor": bed.supervisor.pid, "watcher": bed.watcher()}
            before = {name: (processor_seconds(pid), wake_ups(pid)) for name, pid in pids.items()}
            time.sleep(options.seconds)
            for name, pid in pids.items():
                used = (processor_seconds(pid) - before[name][0]) / options.seconds * 100
                seen[policy, name] = (used, (wake_ups(pid) - before[name][1]) / options.seconds)
    for (policy, name), (used, woken) in seen.items():
        how = "followed" if policy == "restart" else "not followed"
        result(f"{name} of {count} idle gateways that are {how}", f"{used:.2f} % of a processor, {woken:.2f} wake-ups a second")
    return seen["restart", "watcher"][0] - seen["off", "watcher"][0] <= 1


def load(program, options):
    count = options.gateways or 20
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.processors])
    with Bed(program, count, BENCH_BUSY="1") as bed:
        bed.all_live()
        end, unresponsive = time.monotonic() + options.minutes * 60, set()
        while time.monotonic() < end:
            unresponsive |= {name for name in bed.names if bed.record(name).get("state") == "unresponsive"}
            time.sleep(1)
        false = bed.restarted()
        for one in false:
            print(f"  false restart: {one}")
        result(f"{count} busy gateways on {options.processors} processors for {options.minutes:g} min",
               f"{len(false)} false restarts, {len(unresponsive)} seen unresponsive")
        return not false


def boot(program, options):
    count = options.gateways or 500
    ready = (f'start-parallel = {options.parallel}\n'
             'ready = { http = "http://127.0.0.1:${PORT}/health", timeout-ms = 600000 }')
    with Bed(program, count, ready) as bed:
        took = bed.all_live(3600)
        result(f"{count} probed gateways that start at boot, {options.parallel} at a time: all work after", f"{took:.0f} s")
        pids = {"supervisor": bed.supervisor.pid, "watcher": bed.watcher()}
        before = {name: (processor_seconds(pid), wake_ups(pid)) for name, pid in pids.items()}
        time.sleep(options.seconds)
        for name, pid in pids.items():
            used = (processor_seconds(pid) - before[name][0]) / options.seconds * 100
            woken = (wake_ups(pid) - before[name][1]) / options.seconds
            result(f"{name} of these {count}: during the boot", f"{before[name][0]:.1f} s of a processor")
            result(f"{name} of these {count}: afterwards",
                   f"{used:.2f} % of a processor, {woken:.2f} wake-ups a second, {descriptors(pid)} descriptors")
        false = len(bed.restarted())
        result(f"false restarts of these {count}", false)
        return false == 0


PARTS = {"freeze": freeze, "cost": cost, "load": load, "boot": boot}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default=str(pathlib.Path(__file__).parent.parent / "target/gatevisor"))
    options.add_argument("--part", action="append", choices=PARTS)
    options.add_argument("--gateways", type=int)
    options.add_argument("--minutes", type=float, default=15)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--processors", type=int, default=2)
    options.add_argument("--parallel", type=int, default=16)
    options.add_argument("--write", action="store_true")
    options = options.parse_args()
    first_load = os.getloadavg()[0]
    program, passed = str(pathlib.Path(options.program).resolve()), True
    for part in options.part or ["freeze", "cost"]:
        print(part, flush=True)
        passed &= PARTS[part](program, options)
    if options.write:
        write_page((first_load, os.getloadavg()[0]))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
