#!/usr/bin/env python3
"""Measures how long one user's command takes while another user floods the supervisor, beside s6,
in one run.

    bench/floods.py [--samples N] [--same-user]

A sample is the time from writing `u` into the control FIFO of a service that is down to the
service's first instruction. One process makes each flood, as fast as it can:
  none       no flood
  commands   `h` into one FIFO of the other user
  restarts   `u` and `d` into it, with nine hundred subscribers that read nothing
  slots      slots of the other user come and go, with a scan for each
s6 has a process for each service, so `commands` and `restarts` only take processor time from it.
What counts is the difference to `none`. With --same-user, the measured service belongs to the user
who floods, as gateways of one agent do. Everything is on tmpfs. Must be run by root, because the
other user is uid 12345.
"""

import argparse
import contextlib
import os
import pathlib
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from measures import Marks, build_payload, family, sweep
from peers import S6, Core

OTHER = 12345
FLOODS = ("none", "commands", "restarts", "slots")


def wait_for(what, true):
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(what)
        select.select([], [], [], 0.001)


def tell(slot, letters):
    fd = os.open(slot / "supervise" / "control", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, letters)
    finally:
        os.close(fd)


def is_heard(slot):
    try:
        tell(slot, b"")
        return True
    except OSError:
        return False


def flood(peer, kind, slot):
    """Floods until it is killed."""
    if os.geteuid() == 0 and isinstance(peer, Core):
        os.setgid(OTHER)
        os.setuid(OTHER)
    if kind == "restarts":
        for number in range(900):
            name = slot / "event" / f"ftrig1:@4000000000000000{number:08x}:flood1"
            os.mkfifo(name)
            os.open(name, os.O_RDWR | os.O_NONBLOCK)
    scan = os.open(peer.scandir / ".s6-svscan" / "control", os.O_WRONLY | os.O_NONBLOCK)
    control = os.open(slot / "supervise" / "control", os.O_WRONLY | os.O_NONBLOCK)
    number = 0
    while True:
        number += 1
        try:
            if kind == "slots":
                hidden, shown = peer.scandir / f".f{number}", peer.scandir / f"f{number}"
                hidden.mkdir()
                (hidden / "down").touch()
                hidden.rename(shown)
                os.write(scan, b"a")
                if number > 20:
                    old = peer.scandir / f"f{number - 20}"
                    old.rename(peer.scandir / f".g{number}")
                    shutil.rmtree(peer.scandir / f".g{number}", ignore_errors=True)
                    os.write(scan, b"an")
            else:
                os.write(control, b"h" * 512 if kind == "commands" else b"ud" * 64)
        except BlockingIOError:
            pass


def measure(kind, samples, payload, same_user):
    """Returns the times in milliseconds for each flood."""
    times = {}
    for name in FLOODS:
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gvbench") as directory:
            work = pathlib.Path(directory)
            work.chmod(0o755)
            marks = Marks(work)
            peer = kind(work, payload)
            calm = peer.scandir / "calm"
            other = peer.scandir / "other"
            for slot in (calm, other):
                slot.mkdir()
                (slot / "down").touch()
            shutil.copy2(payload, calm / "run")
            peer.script(other / "run", "#!/bin/sh\nexec sleep 3600\n")
            # As in a container, the scandir is the other user's, and `.s6-svscan` is root's.
            svscan = peer.scandir / ".s6-svscan"
            svscan.mkdir()
            os.mkfifo(svscan / "control", 0o600)
            if isinstance(peer, Core):
                os.chown(svscan / "control", 0, OTHER)
                os.chmod(svscan / "control", 0o620)
                own = [calm, calm / "run", calm / "down"] if same_user else []
                for path in (peer.scandir, other, other / "run", other / "down", *own):
                    os.chown(path, OTHER, OTHER)
            process = subprocess.Popen(peer.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            flooder = None
            try:
                for slot in (calm, other):
                    wait_for("supervision", lambda slot=slot: is_heard(slot))
                if name != "none":
                    flooder = os.fork()
                    if flooder == 0:
                        try:
                            flood(peer, name, other)
                        finally:
                            os._exit(1)
                    select.select([], [], [], 1)
                taken = times[name] = []
                for _ in range(samples):
                    wait_for("the end of the last", lambda: peer.pid_of("calm") == 0)
                    began = time.monotonic()
                    tell(calm, b"u")
                    marks.wait(1, 20)
                    taken.append((time.monotonic() - began) * 1000)
                    tell(calm, b"d")
                    select.select([], [], [], 0.005)
                if flooder and os.waitpid(flooder, os.WNOHANG)[0]:
                    flooder = None
                    raise RuntimeError(f"the flood of {name} ended by itself")
            finally:
                if flooder:
                    os.kill(flooder, signal.SIGKILL)
                    os.waitpid(flooder, 0)
                # Another benchmark measures how it ends.
                for pid in family(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
                sweep()
                marks.close()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--same-user", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can be two users")
    peers = [Core] + ([S6] if shutil.which("s6-svscan") else [])
    build = pathlib.Path(tempfile.mkdtemp(prefix="gvpayload"))
    build.chmod(0o755)
    payload = build_payload(build)
    try:
        times = {kind.name: measure(kind, options.samples, payload, options.same_user) for kind in peers}
    finally:
        shutil.rmtree(build)
    print(f"milliseconds from `u` to the first instruction; {options.samples} samples on {os.cpu_count()} processors\n")
    print("| flood | " + " | ".join(f"{name} median | {name} p99" for name in times) + " |")
    print("|---" * (1 + 2 * len(times)) + "|")
    for flood_name in FLOODS:
        cells = []
        for figures in times.values():
            ordered = sorted(figures[flood_name])
            cells.append(f"{statistics.median(ordered):.2f} | {ordered[len(ordered) * 99 // 100]:.2f}")
        print(f"| {flood_name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
