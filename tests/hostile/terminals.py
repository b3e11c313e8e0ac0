"""What happens on terminals: what root does on one, and what the programs do that root runs. Verbs
of attacker.py."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import unicodedata

TIOCSTI = 0x5412
# Fillers, which are letters for Unicode but invisible.
INVISIBLE = "\u3164\u115f\u1160\uffa0\u034f\u2800"


def terminal(seconds, command, keys):
    """Lets a shell of root on a terminal run a command, types keys, and ends the shell. Prints what
    the terminal showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("/bin/sh", ["sh", "-i"])
    shown = bytearray()
    end = time.monotonic() + float(seconds)

    def until(mark):
        while mark not in shown:
            left = end - time.monotonic()
            if left <= 0 or not select.select([master], [], [], left)[0]:
                os.kill(pid, signal.SIGKILL)
                sys.exit(f"the terminal never showed {mark!r}: {bytes(shown)!r}")
            try:
                shown.extend(os.read(master, 4096))
            except OSError:
                sys.exit(f"the shell ended: {bytes(shown)!r}")

    def typed(words):
        os.write(master, words.encode() + b"\n")

    # Marks that do not occur in the typed line.
    typed("PS1= ; PS2= ; unset HISTFILE; echo be''gun")
    until(b"begun")
    typed(f"{command}; echo over''1")
    until(b"over1")
    if keys:
        typed(keys)
    typed("echo over''2")
    until(b"over2")
    # Now the shell runs what was put into the terminal's input.
    typed("echo over''3; exit")
    until(b"over3")
    # A shell with a stopped job does not end at once.
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(master)
    print(shown.decode(errors="replace"))


def put(fd, words):
    for byte in words.encode():
        fcntl.ioctl(fd, TIOCSTI, bytes([byte]))


def own_terminals():
    """Yields every descriptor of this process and its controlling terminal."""
    for number in range(10):
        if os.isatty(number):
            yield number
    try:
        yield os.open("/dev/tty", os.O_RDWR)
    except OSError:
        pass


def types(proof):
    """Types into every terminal that it has."""
    for fd in own_terminals():
        try:
            put(fd, f"\n/usr/bin/touch {proof}\n")
        except OSError:
            pass


def later():
    """Goes on in a child, which becomes an orphan."""
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)


def types_later(proof):
    later()
    for _ in range(20):
        types(proof)
        time.sleep(0.05)


def reads(notes):
    later()
    end = time.monotonic() + 5
    terminals = list(own_terminals())
    while time.monotonic() < end and terminals:
        for fd in terminals:
            try:
                # A process that ignores SIGTTOU may make itself the terminal's foreground process.
                os.tcsetpgrp(fd, os.getpgrp())
            except OSError:
                pass
        for fd in select.select(terminals, [], [], 0.05)[0]:
            try:
                read = os.read(fd, 1000)
            except OSError:
                read = b""
            if not read:
                terminals.remove(fd)
            with open(notes, "ab") as file:
                file.write(read)


def opens_terminals(proof):
    """Opens terminals by their names, and by the descriptors of the parent and of every process."""
    later()
    for _ in range(10):
        paths = [f"/dev/pts/{name}" for name in os.listdir("/dev/pts")] + ["/dev/console", "/dev/tty", "/dev/tty0"]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            paths += [f"/proc/{pid}/fd/{number}" for number in (0, 1, 2, 10, 255)]
        for path in paths:
            try:
                fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                put(fd, f"\n/usr/bin/touch {proof}\n")
            except OSError:
                pass
        time.sleep(0.05)


def inherits(leak):
    """Records each descriptor beyond the first three that leads to a file."""
    for number in range(3, 64):
        try:
            where = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        # Except the descriptor of the listing itself, and this program's own file.
        if where.startswith("/srv/bed/victims"):
            with open(leak, "a") as file:
                file.write(f"{number} {where}\n")


def disorders():
    """Leaves the terminal raw and without echo."""
    for fd in own_terminals():
        try:
            now = termios.tcgetattr(fd)
            now[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
            termios.tcsetattr(fd, termios.TCSANOW, now)
        except termios.error:
            pass


def stops():
    """Stops itself and its waiting parents, as far as it may, and ends a moment after it is
    continued."""
    if os.fork() == 0:
        parent = os.getppid()
        time.sleep(0.3)
        for victim in (parent, os.getpgid(parent)):
            try:
                os.kill(victim, signal.SIGCONT)
            except OSError:
                pass
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)


def strange(text):
    """Returns the characters of a text that must not be shown to people."""
    found = set()
    for letter in text:
        category = unicodedata.category(letter)
        if letter in "\n\t":
            continue
        if category in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or letter in INVISIBLE:
            found.add(f"U+{ord(letter):04X}")
    return found


def shown(seconds, program, *verbs):
    """Runs reports of root into a pipe and on a terminal, and fails if they hang or print a control
    character."""
    wrong = []
    for verb in " ".join(verbs).split(" -- "):
        words = [program, *verb.split()]
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=float(seconds), env=environment)
        except subprocess.TimeoutExpired:
            wrong.append(f"`{verb}` hangs")
            continue
        found = strange((done.stdout + done.stderr).decode(errors="surrogateescape"))
        if found:
            wrong.append(f"`{verb}` printed {sorted(found)} into a pipe")
        pid, master = pty.fork()
        if pid == 0:
            os.execve(program, words, environment)
        text, end = bytearray(), time.monotonic() + float(seconds)
        while select.select([master], [], [], max(0, end - time.monotonic()))[0]:
            try:
                text.extend(os.read(master, 4096))
            except OSError:
                break
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            wrong.append(f"`{verb}` hangs on a terminal")
        os.waitpid(pid, 0)
        os.close(master)
        found = strange(re.sub(rb"\r\n", b"\n", bytes(text)).decode(errors="surrogateescape"))
        if found:
            wrong.append(f"`{verb}` printed {sorted(found)} on a terminal")
        if re.search(rb"(?m)^(gatevisor|init|reconcile): FORGED", bytes(text) + b"\n" + done.stdout + done.stderr):
            wrong.append(f"`{verb}` printed a forged line")
    if wrong:
        sys.exit("\n".join(wrong))
