#!/usr/bin/env python3
"""Follows real Hermes gateways that answer turns all the time, and has one of them frozen
meanwhile.

    bench/hermes_load.py [--program FILE] [--hermes FILE] [--gateways N] [--minutes M]
                         [--processors P] [--clients C]

N gateways (20) of the built-in definition, with its default settings, run for M minutes (15) on P
processors (2). C clients (one a gateway) ask them without a pause, through their API servers, and a
model of our own answers at once. After a third of the time, a signal stops one gateway: it must be
found, and must work again as another process. Every other process must be the same at the end: a
gateway that is not is a false restart, or died by itself, and both are failures.

The program is target/gatevisor, and Hermes is HERMES_BIN, or the one that scripts/hermes-venv.sh
makes. The memory needed is about 100 MB for each gateway.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import liveness
from measures import ROOT

KEY = "0123456789abcdef0123456789abcdef"
CONFIG = """model:
  default: slow
  provider: custom
  base_url: http://127.0.0.1:{port}/v1
  api_key: none
  context_length: 200000
"""
ENV = f"API_SERVER_ENABLED=true\nAPI_SERVER_HOST=127.0.0.1\nAPI_SERVER_PORT={{port}}\nAPI_SERVER_KEY={KEY}\n"
# A turn that waits longer than this counts as unanswered.
TURN_S = 120


class Model:
    """The model of the tests, which answers at once."""

    def __init__(self):
        self.place = tempfile.TemporaryDirectory(prefix="gatevisor-bench-")
        self.port, = liveness.free_ports(1)
        script = ROOT / "tests/support/model.py"
        self.process = subprocess.Popen([sys.executable, str(script), str(self.port), self.place.name],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def __enter__(self):
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if time.monotonic() > end:
                raise SystemExit("the model does not answer")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.place.cleanup()


class HermesBed(liveness.Bed):
    """A home with gateways of Hermes and a supervisor."""

    def __init__(self, program, hermes, gateways, model):
        self.place = tempfile.TemporaryDirectory(prefix="gatevisor-bench-")
        self.home = pathlib.Path(self.place.name) / "home"
        self.names = [f"g{number:03}" for number in range(gateways)]
        self.ports = dict(zip(self.names, liveness.free_ports(gateways)))
        for name, port in self.ports.items():
            profile = self.home / "profiles" / name
            profile.mkdir(parents=True)
            (profile / "SOUL.md").write_text("You answer.\n")
            (profile / ".env").write_text(ENV.format(port=port))
            (profile / ".env").chmod(0o600)
            (profile / "config.yaml").write_text(CONFIG.format(port=model.port))
            (profile / "gateway_state.json").write_text('{"desired_state": "running", "gateway_state": "running"}')
        # Otherwise Hermes would download a helper program, which nothing here needs.
        environment = {**os.environ, "HERMES_BIN": hermes, "TIRITH_ENABLED": "false"}
        self.said = open(pathlib.Path(self.place.name) / "said", "w+")
        self.supervisor = subprocess.Popen([program, "--home", str(self.home), "up", "--quiet"], env=environment,
                                           stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)

    def pids(self):
        return {name: self.record(name).get("pid") for name in self.names}


class Client(threading.Thread):
    """Asks one gateway again and again, and counts the answers."""

    def __init__(self, port, end):
        super().__init__(daemon=True)
        self.port, self.end, self.answered, self.unanswered = port, end, 0, 0

    def turn(self, words):
        body = {"model": "hermes-agent", "messages": [{"role": "user", "content": words}]}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TURN_S)
        try:
            head = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
            return f"you said: {words}" in connection.getresponse().read().decode(errors="replace")
        finally:
            connection.close()

    def run(self):
        number = 0
        while time.monotonic() < self.end:
            number += 1
            try:
                answered = self.turn(f"number {number}.")
            except (OSError, http.client.HTTPException):
                answered = False
            self.answered += answered
            self.unanswered += not answered
            if not answered:
                time.sleep(1)


class Watch:
    """Sees each gateway once a second, and freezes one of them."""

    def __init__(self, bed, frozen):
        self.bed, self.frozen, self.first = bed, frozen, bed.pids()
        self.unresponsive, self.others = set(), set()
        self.stopped = self.found = self.recovered = None

    def freeze(self):
        os.kill(self.first[self.frozen], signal.SIGSTOP)
        self.stopped = time.monotonic()

    def look(self):
        for name in self.bed.names:
            record = self.bed.record(name)
            if name == self.frozen and self.stopped:
                self.look_at_frozen(record)
                continue
            if record.get("state") == "unresponsive":
                self.unresponsive.add(name)
            if record.get("pid", self.first[name]) != self.first[name]:
                self.others.add(name)

    def look_at_frozen(self, record):
        now, same = time.monotonic() - self.stopped, record.get("pid") == self.first[self.frozen]
        if self.found is None and (record.get("state") == "unresponsive" or not same):
            self.found = now
        if self.recovered is None and not same and record.get("state") == "live":
            self.recovered = now


def follow(watch, seconds):
    """Looks until the time is over, and prints every minute how busy the machine is."""
    began, minute = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        if now >= seconds / 3 and not watch.stopped:
            watch.freeze()
        watch.look()
        if now // 60 > minute:
            minute = int(now // 60)
            print(f"  minute {minute}: load average {os.getloadavg()[0]:.1f}", flush=True)
        time.sleep(1)
    # One more minute for the one that was frozen, if the time was short.
    while watch.recovered is None and time.monotonic() - watch.stopped < 180:
        watch.look()
        time.sleep(1)


def load(options, hermes):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.processors])
    with Model() as model, HermesBed(options.program, hermes, options.gateways, model) as bed:
        liveness.result(f"{options.gateways} gateways of Hermes: all work after", f"{bed.all_live():.0f} s")
        frozen, seconds = bed.names[-1], options.minutes * 60
        watch = Watch(bed, frozen)
        clients = [Client(bed.ports[bed.names[number % len(bed.names)]], time.monotonic() + seconds)
                   for number in range(options.clients or options.gateways)]
        for client in clients:
            client.start()
        follow(watch, seconds)
        for one in bed.restarted():
            print(f"  restarted by the watcher: {one}")
        answered, unanswered = (sum(getattr(client, key) for client in clients) for key in ("answered", "unanswered"))
        liveness.result("turns", f"{answered} answered, {unanswered} not (those of the frozen gateway among them)")
        liveness.result("stopped by a signal: unresponsive after", said(watch.found))
        liveness.result("stopped by a signal: works again after", said(watch.recovered))
        liveness.result(f"{options.gateways} gateways of Hermes under load for {options.minutes:g} min",
                        f"{len(watch.others)} false restarts {sorted(watch.others)}, "
                        f"{len(watch.unresponsive)} seen unresponsive {sorted(watch.unresponsive)}")
        return not watch.others and watch.found is not None and watch.recovered is not None and answered > 0


def said(seconds):
    return "never" if seconds is None else f"{seconds:.0f} s"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default=str(ROOT / "target/gatevisor"))
    options.add_argument("--hermes", default=os.environ.get("HERMES_BIN"))
    options.add_argument("--gateways", type=int, default=20)
    options.add_argument("--minutes", type=float, default=15)
    options.add_argument("--processors", type=int, default=2)
    options.add_argument("--clients", type=int)
    options = options.parse_args()
    options.program = str(pathlib.Path(options.program).resolve())
    hermes = options.hermes
    if not hermes:
        venv = subprocess.run([ROOT / "scripts/hermes-venv.sh", "0.19"], check=True, text=True, stdout=subprocess.PIPE)
        hermes = venv.stdout.strip() + "/bin/hermes"
    print(f"load average {os.getloadavg()[0]:.1f} at the beginning", flush=True)
    passed = load(options, hermes)
    print(f"load average {os.getloadavg()[0]:.1f} at the end", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
