"""What the benchmarks of supervision read from the kernel: stamps of payloads, processes, memory,
processor time."""

import json
import os
import pathlib
import select
import signal
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = pathlib.Path("/tmp/.gatevisor-bench")


class Marks:
    """A FIFO into which each payload writes the time of its first instruction."""

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
        """Returns the stamp of the last of `count` payloads, in nanoseconds of the monotonic
        clock."""
        end, last = time.monotonic() + seconds, 0
        while count > 0:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"{count} services did not start")
            stamps = os.read(self.fd, 8 * count)
            last = max(last, *(stamp for stamp, in struct.iter_unpack("=Q", stamps)))
            count -= len(stamps) // 8
        return last

    def close(self):
        os.close(self.fd)
        PLACE.unlink(missing_ok=True)


def agent_definition(command, settings="", more=""):
    """Returns the definition of an agent whose gateways run this command."""
    return f"""
name = "bench"
[profile]
marker = "agent.conf"
[[profile.files]]
path = "agent.conf"
[gateway]
command-default = ["false"]
command-named = {json.dumps(command)}
state-file = "gateway_state.json"
log-directory = "${{BENCH_HOME}}/logs/{{profile}}"
boot-log = "boot.log"
stop-timeout-ms = 5000
{settings}
{more}
[default-profile]
gateway = false
"""


def build_payload(directory):
    """Compiles the payload as a small static program, and returns its path."""
    payload = directory / "payload"
    subprocess.run(["musl-gcc", "-Os", "-static", "-s", "-o", payload, ROOT / "bench" / "payload.c"], check=True)
    return payload


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


def is_payload(pid):
    """Returns whether a process of a supervisor runs the payload, of which each service has a copy
    or which it names."""
    try:
        return pathlib.Path(os.readlink(f"/proc/{pid}/exe")).name in ("payload", "run")
    except OSError:
        return False


def smaps(pid, *keys):
    """Returns the sum of these kinds of memory of a process, in kB."""
    try:
        text = pathlib.Path("/proc", str(pid), "smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.split(":")[0] in keys)


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def switches(pid):
    text = pathlib.Path("/proc", str(pid), "status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


def until_gone(pids, seconds):
    """Waits until processes have ended; returns those that have not. The end of each wakes us."""
    end, held = time.monotonic() + seconds, []
    for pid in pids:
        try:
            held.append(os.pidfd_open(pid))
        except ProcessLookupError:
            pass
    poll, left = select.poll(), set(held)
    for fd in held:
        poll.register(fd, select.POLLIN)
    while left and time.monotonic() < end:
        for fd, _ in poll.poll(max(0, end - time.monotonic()) * 1000):
            poll.unregister(fd)
            left.discard(fd)
    for fd in held:
        os.close(fd)
    return len(left)


def sweep():
    """Kills payloads and loggers that a supervisor left behind: processes that run below a bench's
    directory."""
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
