"""What an attacker leaves for root to find: trees, names, texts, file systems. Verbs of
attacker.py."""

import ctypes
import os
import signal
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
STOP = os.environ.get("STOP", "/nonexistent")
# What no terminal may receive unescaped: escape sequences, line ends, marks of direction, invisible
# characters.
NASTY = "\x1b[2J\x1b]52;c;aGk=\x07\x9b31m\x08\x7f\u202e\u2066\u200b\u061c\u3164\u115f\U000e0041\rgatevisor: FORGED"


def rounds(seconds, per_look):
    """Yields until it is time to stop."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end and not os.path.exists(STOP):
        for _ in range(per_look):
            yield


def many(directory, count):
    """Fills a directory with files, directories and links."""
    os.chdir(directory)
    for number in range(int(count)):
        name = f"many-{number}"
        if number % 10 == 0:
            os.mkdir(name)
        elif number % 10 == 1:
            os.symlink("/etc", name)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))


def deep(directory, count):
    """Makes nested directories, and in the innermost one what a walk could harm."""
    os.chdir(directory)
    for _ in range(int(count)):
        os.mkdir("d")
        os.chdir("d")
    os.mkfifo("f")
    os.symlink("/etc", "l")


def grow(seconds, directory):
    """Adds directories to the innermost one faster than a walk proceeds, until the time is over."""
    for number, _ in enumerate(rounds(seconds, 50)):
        try:
            os.makedirs(f"{directory}/g{number % 300}/g{number}/g/g/g", exist_ok=True)
        except OSError:
            pass


def names():
    """Makes entries whose names are difficult to print, to compare and to quote."""
    for name in (b"\n", b"\x1b[2J", b"-rf", b"*", b" ", b"\xff\xfe", "\u202e\u2066".encode(), b"..." , b"a\tb", b"$(id)", b"`id`", b"'\""):
        os.mkdir(name)
        os.close(os.open(name + b"/" + name, os.O_CREAT | os.O_WRONLY))


def sockets():
    """Makes sockets, which nobody can open."""
    import socket as sockets_of

    for number in range(20):
        sockets_of.socket(sockets_of.AF_UNIX).bind(f"socket-{number}")


def socket(path):
    """Makes a socket that stays after the end of this process."""
    import socket as sockets_of

    sockets_of.socket(sockets_of.AF_UNIX).bind(path)


def fuse(note):
    """Mounts a file system that never answers, in the namespace of a process that stays. Writes its
    number into `note`.

    Others may not enter such a file system, but they may enter an overlay of it, which accesses it
    as its owner.
    """
    CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
    user, group = os.getuid(), os.getgid()
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        said = os.read(read, 1000)
        if not said.startswith(b"mounted"):
            sys.exit(f"no file system of one's own: {said}")
        return
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)

    def must(done, what):
        if done != 0:
            raise OSError(ctypes.get_errno(), what)

    try:
        must(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{file}", "w") as map_:
                map_.write(text)
        fd = os.open("/dev/fuse", os.O_RDWR)
        must(LIBC.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"mode=755"), "mount tmpfs")
        for name in ("fuse", "other", "never"):
            os.mkdir(f"/tmp/{name}")
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        must(LIBC.mount(b"never", b"/tmp/fuse", b"fuse", 0, options), "mount fuse")
        if os.fork() == 0:
            serve(fd)
        must(LIBC.mount(b"over", b"/tmp/never", b"overlay", 0, b"lowerdir=/tmp/fuse:/tmp/other,userxattr"), "mount overlay")
        with open(note, "w") as file:
            file.write(str(os.getpid()))
        os.write(write, b"mounted")
    except OSError as error:
        os.write(write, str(error).encode())
        os._exit(1)
    os.close(write)
    while not os.path.exists(STOP):
        signal.sigtimedwait([signal.SIGUSR2], 0.1)


def serve(fd):
    """Answers requests of a mount about the root of the file system, and no request about a name in
    it."""
    import struct

    LOOKUP, GETATTR, STATFS, GETXATTR, INIT = 1, 3, 17, 22, 26
    attributes = struct.pack("<6Q3I6I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096)[:84].ljust(88, b"\0")
    while True:
        request = os.read(fd, 1 << 20)
        _, operation, unique, node, _, _, _, _ = struct.unpack("<IIQQIIII", request[:40])
        error, answer = 0, b""
        if operation == INIT:
            answer = struct.pack("<IIIIHHIIHHI", 7, 31, 4096, 0, 12, 9, 4096, 1, 1, 0, 0).ljust(64, b"\0")
        elif operation == GETATTR:
            answer = struct.pack("<QII", 3600, 0, 0) + attributes
        elif operation == STATFS:
            answer = b"\0" * 80
        elif operation == GETXATTR:
            error = -61
        elif operation == LOOKUP:
            continue
        else:
            error = -38
        os.write(fd, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)


def nasty(kind, path=None):
    """Writes a text that controls a terminal into a file of some kind, or makes directories with
    such names."""
    import json

    if kind == "names":
        for name in (NASTY, "\x1b[2J", "\u202egnp", "x\ngatevisor: FORGED", "\u3164", "x\u200b"):
            os.makedirs(name, exist_ok=True)
            for file in ("SOUL.md", "run", "current"):
                with open(f"{name}/{file}", "w") as text:
                    text.write(NASTY + "\n")
        return
    with open(path, "w") as file:
        if kind == "state":
            # The text is written as escapes of JSON, so that it can be parsed.
            keys = ("gateway_state", "reason", "desired_state", "pid", "error", "updated_at", "exit_reason", NASTY)
            json.dump({key: NASTY for key in keys}, file)
        elif kind == "env":
            file.write("".join(f"{name}={NASTY}\n" for name in ("API_SERVER_PORT", "API_SERVER_ENABLED", "TELEGRAM_BOT_TOKEN", NASTY)))
        else:
            file.write((NASTY + "\n") * 3)


def pid_of(user):
    """Prints the number of a process of a user."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if os.stat(f"/proc/{pid}").st_uid == int(user):
            print(pid)
            return
    sys.exit(f"uid {user} has no process")


def opens(path):
    """Succeeds if a file can be opened for reading without waiting."""
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def peek_named(name, seconds, leak):
    """Tries to trace each process of its own user that runs Gatevisor: root's commands, which have
    become this user."""
    PTRACE_SEIZE = 0x4206
    for _ in rounds(seconds, 1):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{pid}").st_uid != os.getuid() and os.readlink(f"/proc/{pid}/exe"):
                    continue
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            # The watcher of profiles, the log daemon and the idle service are the agent's own.
            if os.path.basename(words[0]) != name.encode() or words[1:2] in ([b"logd"], [b"idle"], [b"profile-watcher"], [b"service"], [b"supervise"]):
                continue
            got = LIBC.ptrace(PTRACE_SEIZE, int(pid), 0, 0) == 0
            try:
                os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
                got = True
            except OSError:
                pass
            if got:
                with open(leak, "a") as file:
                    file.write(f"{pid} {words}\n")


def crowd(directory, count, target, length, letters="printable"):
    """Fills a directory with links whose names have one length, or every length."""
    os.chdir(directory)
    letters = b"x" if letters == "printable" else b"\x1b\x01\x7f\xff"
    for number in range(int(count)):
        name = f"n{number:06}-".encode()
        more = (int(length) or 8 + number % 240) - len(name)
        os.symlink(target, name + (letters * more)[:more])


def chain(count, seconds):
    """Becomes a chain of processes that fork and end, ignore signals and have sessions of their
    own, until the time is over."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end = time.monotonic() + float(seconds)
    for _ in range(int(count)):
        if os.fork() == 0:
            break
    else:
        os._exit(0)
    while time.monotonic() < end:
        try:
            if os.fork():
                os._exit(0)
            os.setsid()
        except OSError:
            pass
        time.sleep(0.005)


def no_zombies():
    """Fails if the first process has left zombies. A few are allowed, because processes die all the
    time."""
    dead = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, parent = file.read().rsplit(") ", 1)[1].split()[:2]
        except OSError:
            continue
        dead += state == "Z" and parent == "1"
    sys.exit(dead > 5)


def reads_away(seconds, control):
    """Tries in every way to read requests from a FIFO that this user may only write to. Records
    what could be read as proof."""
    fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
    _, write = os.pipe()
    PIDFD_GETFD, first = 438, os.pidfd_open(1)
    doors = [control, f"/proc/self/fd/{fd}", f"/proc/{os.getpid()}/task/{os.getpid()}/fd/{fd}", f"/dev/fd/{fd}"]

    def tries():
        for door in doors:
            for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND):
                yield lambda door=door, flags=flags: os.read(os.open(door, flags | os.O_NONBLOCK), 100)
        yield lambda: os.read(fd, 100)
        yield lambda: os.splice(fd, write, 100)
        # tee(2) of a pipe needs the right to read it.
        yield lambda: LIBC.tee(fd, write, 100, 2) > 0 or refuse()
        # So does taking a descriptor of the first process.
        for number in range(32):
            yield lambda number=number: LIBC.syscall(PIDFD_GETFD, first, number, 0) >= 0 or refuse()

    def refuse():
        raise PermissionError

    for _ in rounds(seconds, 1):
        for attempt in tries():
            try:
                attempt()
            except BlockingIOError:
                pass
            except OSError:
                continue
            with open(f"{os.environ['T']}/leak", "a") as proof:
                proof.write("requests could be read\n")


def crowds_out(seconds, control):
    """Makes a FIFO as small as possible, and keeps it full."""
    import fcntl

    fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
    # Each byte is a packet of its own, of which the smallest pipe holds one.
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_WRONLY | os.O_NONBLOCK | os.O_DIRECT)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
    for _ in rounds(seconds, 100):
        try:
            os.write(fd, b"\0")
        except BlockingIOError:
            pass
