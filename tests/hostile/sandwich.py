"""Judges every file-system call of root in a trace: whether the owner of the home or the scandir
can lead it astray.

    sandwich.py TRACE OWNED...    prints a line for each call that can, and ends with 1 if there is
                                  one

TRACE is the output of `strace -f -y --pidns-translation`. OWNED are the directories in which users
other than root may write. This script judges what Gatevisor does with euid 0, from its exec on. It
does not judge other programs, but it does judge that root executes a program from an OWNED
directory.

A call is right if no owner of something below an OWNED directory decides what the call reaches:

- openat2 with RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and, unless it only reads,
  RESOLVE_NO_XDEV; or
- one name below an opened directory, and the last link is not followed; or
- nothing but a descriptor, also as /proc/self/fd/N.
"""

import collections
import os
import re
import sys

# Calls that follow a link at the end of the path, each with the flag that prevents it.
FOLLOWS = {
    "openat": "O_NOFOLLOW",
    "open": "O_NOFOLLOW",
    "newfstatat": "AT_SYMLINK_NOFOLLOW",
    "statx": "AT_SYMLINK_NOFOLLOW",
    "fchownat": "AT_SYMLINK_NOFOLLOW",
    "utimensat": "AT_SYMLINK_NOFOLLOW",
    "faccessat2": "AT_SYMLINK_NOFOLLOW",
    "fchmodat2": "AT_SYMLINK_NOFOLLOW",
    "name_to_handle_at": None,
    "execveat": "AT_SYMLINK_NOFOLLOW",
    "faccessat": None,
    "fchmodat": None,
    "futimesat": None,
    "inotify_add_watch": "IN_DONT_FOLLOW",
}
# Calls that never follow the last link, whatever their flags.
NEVER_FOLLOWS = {"unlinkat", "mkdirat", "mknodat", "renameat", "renameat2", "symlinkat", "readlinkat", "linkat"}
# Calls whose path arguments begin with a descriptor.
AT = FOLLOWS.keys() - {"open", "inotify_add_watch"} | NEVER_FOLLOWS | {"openat2"}
MAKES = {"clone", "clone3", "fork", "vfork"}
OPENS = {"open", "openat", "openat2"}
# Calls with a string that is no path, or that the kernel has written.
NO_PATH = {"prctl", "getcwd", "write"}

STRINGS = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^([a-z_0-9]+)\((.*)\) += (-?\d+|\?)(.*)$", re.S)
# A descriptor with its path; the path may hold anything but `>`.
DESCRIPTOR = re.compile(r"^(AT_FDCWD|-?\d+)(?:<([^>]*)>)?")
TRANSLATED = re.compile(r"/\* (\d+) in strace's PID NS \*/")


class Process:
    """What is known of a process: its user, its directory, and whether it runs Gatevisor."""

    def __init__(self, parent=None):
        self.euid = parent.euid if parent else 0
        self.cwd = parent.cwd if parent else "/"
        self.ours = parent.ours if parent else False
        self.words = parent.words if parent else "?"


def calls(lines):
    """Yields the process, name, arguments, result and rest of each call, in the order in which they
    ended."""
    begun = {}
    for line in lines:
        found = LINE.match(line)
        if not found:
            continue
        pid, text = int(found[1]), found[2]
        if text.endswith("<unfinished ...>"):
            begun[pid] = text[: -len("<unfinished ...>")]
            continue
        resumed = re.match(r"<\.\.\. [a-z_0-9]+ resumed>(.*)$", text)
        if resumed:
            text = begun.pop(pid, "") + resumed[1]
        call = CALL.match(text)
        if call:
            yield pid, call[1], call[2], call[3], call[4]
        elif text.startswith("+++ "):
            yield pid, "exit", "", "?", ""


def parents(found):
    """Returns the parents of each process number, in the order in which processes had that number.

    A child appears in the trace before the call that made it has returned, so the parents are
    collected beforehand.
    """
    made = collections.defaultdict(collections.deque)
    for pid, name, _, result, rest in found:
        if name in MAKES and result not in ("-1", "?"):
            child = TRANSLATED.search(rest)
            made[int(child[1]) if child else int(result)].append(pid)
    return made


def arguments(text):
    """Splits arguments at commas outside of strings, braces and brackets."""
    found, depth, quoted, start, at = [], 0, False, 0, 0
    while at < len(text):
        letter = text[at]
        if quoted:
            if letter == "\\":
                at += 1
            elif letter == '"':
                quoted = False
        elif letter == '"':
            quoted = True
        elif letter in "{[(<":
            depth += 1
        elif letter in "}])>":
            depth -= 1
        elif letter == "," and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
        at += 1
    return [*found, text[start:].strip()]


class Judge:
    def __init__(self, owned, made, program="gatevisor"):
        self.made = made
        self.owned = owned
        self.program = program
        self.processes = {}
        # Each finding as it is shown, with how often it was seen, and by which processes.
        self.offences = collections.Counter()
        self.judged = 0

    def is_owned(self, path):
        return any(path == top or path.startswith(top + "/") for top in self.owned)

    def take(self, pid, name, text, result, rest):
        process = self.processes.get(pid)
        if process is None:
            made = self.made[pid]
            process = self.processes[pid] = Process(self.processes.get(made.popleft()) if made else None)
        if name == "exit":
            del self.processes[pid]
            return
        if name in ("execve", "execveat"):
            self.execute(process, name, text, result)
            return
        if name in ("setresuid", "setreuid", "setuid", "seteuid", "setfsuid") and result == "0":
            numbers = [word.strip() for word in text.split(",")]
            effective = numbers[1] if name in ("setresuid", "setreuid") else numbers[0]
            if effective != "-1":
                process.euid = int(effective)
            return
        if name in ("chdir", "fchdir") and result == "0":
            path = STRINGS.search(text)
            where = path[1] if path else (DESCRIPTOR.match(text)[2] or "?")
            before, process.cwd = process.cwd, os.path.normpath(os.path.join(process.cwd, where))
            if name == "chdir" and self.is_judged(process):
                self.judge(process, name, before, where, text, False)
            return
        if self.is_judged(process):
            self.look(process, name, text, rest)

    def is_judged(self, process):
        return process.ours and process.euid == 0

    def execute(self, process, name, text, result):
        words = [found[0] for found in STRINGS.findall(text)]
        if self.is_judged(process) and words and self.is_owned(os.path.join(process.cwd, words[0])):
            self.offend(process, name, text, "root executes what others may write")
        if result == "0" and words:
            # The shims and applets are links to this program.
            program = words[0] if name == "execve" else (DESCRIPTOR.match(text) or ["", "", ""])[2] or words[0]
            base = os.path.basename(program or "")
            process.ours = base in (self.program, "init", "hermes", "main-wrapper.sh", "tini") or base.startswith("s6-") or "/proc/self/exe" in words[0]
            if "/.venv/" in words[0]:
                process.ours = False
            process.words = " ".join(words[1:5])

    def look(self, process, name, text, rest):
        words = arguments(text)
        if name in NO_PATH:
            return
        if name == "readlink":
            # The rest of the path is judged from where the link leads.
            words = words[:1]
        at = 0
        while at < len(words):
            base, path = process.cwd, None
            descriptor = DESCRIPTOR.match(words[at])
            if name in AT and descriptor and at + 1 < len(words) and words[at + 1].startswith('"'):
                is_cwd = descriptor[1] == "AT_FDCWD"
                base = process.cwd if is_cwd else descriptor[2] or "?"
                path = STRINGS.match(words[at + 1])[1]
                # The target of symlinkat is only text.
                self.judge(process, name, base, path, text, not is_cwd)
                at += 2
                continue
            if words[at].startswith('"') and name not in AT and name != "symlink":
                path = STRINGS.match(words[at])[1]
                self.judge(process, name, base, path, text, False)
            at += 1

    def judge(self, process, name, base, path, text, below_descriptor):
        self.judged += 1
        full = os.path.join(base, path) if path else base
        own_descriptor = re.match(r"^/proc/(self|thread-self|\d+)/fd/\d+$", full)
        if own_descriptor or not self.is_owned(os.path.normpath(full)) and not (below_descriptor and self.is_owned(base)):
            return
        if name == "openat2":
            for flag in ("RESOLVE_NO_SYMLINKS", "RESOLVE_NO_MAGICLINKS"):
                if flag not in text and "RESOLVE_NO_SYMLINKS" not in text:
                    return self.offend(process, name, text, f"without {flag}")
            if not below_descriptor:
                return self.offend(process, name, text, "not below a descriptor")
            writes = re.search(r"O_(WRONLY|RDWR|CREAT)", text)
            if writes and "RESOLVE_NO_XDEV" not in text:
                return self.offend(process, name, text, "writes across mounts")
            return self.waits(process, name, text)
        if path in ("", "."):
            # Nothing is looked up: the call uses the descriptor, or the working directory, which is
            # like one.
            return
        if not below_descriptor:
            return self.offend(process, name, text, "by path")
        if "/" in path.strip("/") or path in ("..",):
            return self.offend(process, name, text, "more than one name")
        if name in NEVER_FOLLOWS:
            if "AT_SYMLINK_FOLLOW" in text:
                return self.offend(process, name, text, "follows a link")
            return
        flag = FOLLOWS.get(name)
        exclusive = name in OPENS and "O_EXCL" in text
        if name not in FOLLOWS or flag is None or (flag not in text and not exclusive):
            return self.offend(process, name, text, "follows a link")
        if name in OPENS:
            self.waits(process, name, text)

    def waits(self, process, name, text):
        if not re.search(r"O_(NONBLOCK|PATH|DIRECTORY|EXCL)", text):
            self.offend(process, name, text, "may wait in open")

    def offend(self, process, name, text, why):
        # Descriptor numbers and random names differ between runs.
        shown = re.sub(r"\b\d+<", "<", text)
        shown = re.sub(r"\.[0-9a-f]{9,}\b", ".#", shown)
        shown = re.sub(r"\{st_.*?\}|\{stx_.*\}", "{…}", shown)
        shown = re.sub(r"0x[0-9a-f]{6,}", "0x…", shown)
        self.offences[f"{why}: {name}({shown})", process.words] += 1


def main(trace, *owned):
    with open(trace, errors="replace") as file:
        found = list(calls(line.rstrip("\n") for line in file))
    judge = Judge(owned, parents(found))
    for call in found:
        judge.take(*call)
    return judge


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    for (line, words), count in sorted(found.offences.items()):
        print(f"{words or '?'}\t{count}x\t{line}")
    print(f"{found.judged} paths of root's judged, {len(found.offences)} kinds of offence", file=sys.stderr)
    sys.exit(1 if found.offences else 0)
