"""What an attacker does that a shell cannot: racing renames, floods, looking into other processes.

The attacks call `attacker.py VERB …` as the attacking user. A race ends when the file $STOP
appears, or after the given seconds. Exit code 0 means that the attack was carried out; check.py
judges its effect.
"""

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_EXCHANGE = 2
PTRACE_ATTACH = 16
PTRACE_SEIZE = 0x4206
STOP = os.environ.get("STOP", "/nonexistent")


def rounds(seconds, per_look=200):
    """Yields until it is time to stop. Looks at the clock only now and then."""
    end = time.monotonic() + float(seconds)
    while True:
        for _ in range(per_look):
            yield
        if time.monotonic() >= end or os.path.exists(STOP):
            return


def exchange(seconds, *pairs):
    """Exchanges the names of each pair, as fast as possible."""
    pairs = [name.encode() for name in pairs]
    pairs = list(zip(pairs[::2], pairs[1::2]))
    rename = LIBC.renameat2
    done = 0
    for _ in rounds(seconds):
        for one, other in pairs:
            if rename(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0:
                done += 1
    if not done:
        sys.exit(f"nothing could be exchanged: {os.strerror(ctypes.get_errno())}")


def replace(seconds, directory, target, *names):
    """Removes what the supervisor makes and puts links to `target` in its place, as fast as
    possible."""
    os.chdir(directory)
    for _ in rounds(seconds, 20):
        for name in names:
            for what in (os.rmdir, os.unlink):
                try:
                    what(name)
                except OSError:
                    pass
            try:
                os.rename(name, f".was-{os.getpid()}-{time.monotonic_ns()}")
            except OSError:
                pass
            try:
                os.symlink(target, name)
                os.unlink(name)
            except OSError:
                pass


def steal(seconds, directory, decoy, *names):
    """Moves away what the supervisor has just made in `directory` before it can open it, and puts
    `decoy` there.

    The moved entries belong to the supervisor's user and are kept as `caught-N`.
    """
    os.chdir(directory)
    authority = int(os.environ["AUTHORITY"])
    rename = LIBC.renameat2
    names = [name.encode() for name in names]
    caught = 0
    spare = [f".own-{n}".encode() for n in range(4)]
    for name in spare:
        os.makedirs(name, exist_ok=True)
    for _ in rounds(seconds, 500):
        for n, name in enumerate(names):
            to = b"caught-%d" % caught
            if rename(AT_FDCWD, name, AT_FDCWD, to, 0) != 0:
                continue
            if os.lstat(to).st_uid == authority:
                caught += 1
                rename(AT_FDCWD, decoy.encode() if decoy else spare[n], AT_FDCWD, name, 0)
            else:
                subprocess.run(["rm", "-rf", to], check=False)
    print(f"caught {caught}")


def write(fifo, seconds, what):
    """Floods a FIFO without ever waiting for it."""
    bytes_ = what.encode("latin1").decode("unicode_escape").encode("latin1") * (4096 // max(1, len(what)))
    for _ in rounds(seconds, 1):
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT, errno.EACCES):
                continue
            raise
        try:
            for _ in range(500):
                try:
                    os.write(fd, bytes_)
                except OSError:
                    pass
        finally:
            os.close(fd)


def listeners(directory, count, kind):
    """Fills an event directory: FIFOs without readers, FIFOs that are held and full, or names with
    an unusual end."""
    held = []
    for number in range(int(count)):
        name = os.path.join(directory, f"ftrig1:@4000000000000000{number:08x}:attack")
        os.mkfifo(name, 0o666)
        if kind == "held":
            fd = os.open(name, os.O_RDWR | os.O_NONBLOCK)
            held.append(fd)
            try:
                while True:
                    os.write(fd, b"." * 4096)
            except BlockingIOError:
                pass
    if held:
        hold()


def hold():
    """Stays until it is told to stop."""
    for _ in rounds(60, 1):
        signal.sigtimedwait([signal.SIGUSR2], 0.05)


def hold_lock(path, proof):
    """Holds the lock of a file, and makes another file to show that."""
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        open(proof, "w").close()
        hold()


def slots(directory, count, start):
    """Makes this number of slots. `start` says whether they shall be up."""
    for number in range(int(count)):
        path = f"{directory}/.m{number}"
        os.mkdir(path)
        with open(f"{path}/run", "w") as run:
            run.write("#!/bin/sh\nexec sleep 3600\n")
        os.chmod(f"{path}/run", 0o755)
        if start != "up":
            os.close(os.open(f"{path}/down", os.O_CREAT))
        os.rename(path, f"{directory}/m{number:05}")


def churn(directory, seconds, count):
    """Hides slots and shows them again by renaming, and asks for scans meanwhile."""
    control = f"{directory}/.s6-svscan/control"
    for number in range(int(count)):
        os.mkdir(f"{directory}/.c{number}")
    hidden = True
    for _ in rounds(seconds, 1):
        for number in range(int(count)):
            names = (f"{directory}/.c{number}", f"{directory}/c{number}")
            try:
                os.rename(*(names if hidden else names[::-1]))
            except OSError:
                pass
        hidden = not hidden
        try:
            fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"ah" * 50)
            os.close(fd)
        except OSError:
            pass


def children(supervisor):
    """Returns the process ids of the supervisor's children."""
    try:
        with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        found = []
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if file.read().rsplit(") ", 1)[1].split()[1] == str(supervisor):
                        found.append(int(entry))
            except (OSError, IndexError):
                pass
        return found


def peek(supervisor, seconds, leak):
    """Tries to read the memory and descriptors of each child before its exec.

    Such a child still runs the supervisor's program. A success is a leak, and is recorded.
    """
    supervisor = int(supervisor)
    for _ in rounds(seconds, 5):
        for pid in [supervisor, *children(supervisor)]:
            try:
                exe = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                # The kernel refuses a look at it, so it should refuse access too. Try all the same.
                exe = None
            got = []
            for what in ("mem", "environ", "auxv"):
                try:
                    fd = os.open(f"/proc/{pid}/{what}", os.O_RDWR if what == "mem" else os.O_RDONLY)
                    os.close(fd)
                    got.append(what)
                except OSError:
                    pass
            try:
                got += os.listdir(f"/proc/{pid}/fd")[:1]
            except OSError:
                pass
            if pid == supervisor or exe is None:
                if LIBC.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0:
                    got.append("ptrace")
            try:
                again = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                again = None
            # It ran the same program before and after, so it ran that program meanwhile.
            if got and exe and exe == again and os.path.basename(exe) == "gatevisor":
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
                if b"logd" in line:
                    continue
                with open(leak, "a") as file:
                    file.write(f"{pid} {exe} {line!r}: {got}\n")


def fill(directory, most):
    """Fills a file system: bytes, then names."""
    for number in range(int(most)):
        try:
            with open(f"{directory}/fill-{number}", "wb") as file:
                file.write(b"\0" * (1 << 20))
        except OSError:
            break
    for number in range(20000):
        try:
            os.mkdir(f"{directory}/fill-dir-{number}")
        except OSError:
            return


def bomb(seconds):
    """Forks until it cannot, again and again. Everything ends with the first process."""
    LIBC.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: nobody gets away
    end = time.monotonic() + float(seconds)
    ours = set()
    while time.monotonic() < end:
        try:
            pid = os.fork()
        except OSError:
            continue
        if pid == 0:
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            signal.pause()
        ours.add(pid)
        if len(ours) > 5000:
            break
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    while ours:
        ours.discard(os.wait()[0])


def is_heard(fifo):
    """Returns whether a FIFO has a reader, which shows that a service is supervised."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    except OSError:
        return False


def taken(slot, limit="30"):
    """Waits until a slot is supervised or refused."""
    scandir, name = os.path.split(slot)
    end = time.monotonic() + float(limit)
    control = f"{scandir}/.s6-svscan/control"
    refused = os.path.join(os.fsencode(scandir), b".s6-svscan/refused", os.fsencode(name))
    while time.monotonic() < end:
        if is_heard(f"{slot}/supervise/control") or os.path.lexists(refused):
            return
        try:
            fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"a")
            os.close(fd)
        except OSError:
            pass
        time.sleep(0.01)
    sys.exit(f"{slot!r} is neither supervised nor refused")


def until(limit, *command):
    """Repeats a command until it succeeds. A command that cannot be started has not succeeded."""
    end = time.monotonic() + float(limit)
    while True:
        try:
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"never came true: {command}")
        time.sleep(0.02)


if __name__ == "__main__":
    # The files beside this one have further verbs: what an attacker leaves for root, and what is
    # done on terminals.
    import furniture
    import terminals

    verbs = {**vars(furniture), **vars(terminals), **globals()}
    verbs[sys.argv[1]](*sys.argv[2:])
