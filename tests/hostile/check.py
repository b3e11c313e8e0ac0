"""What must hold after every attack, whatever it was.

    check.py prepare   makes the files of the supervisor's user that attacks aim at, and the
                       bystanders, and records them
    check.py victims   makes only these files
    check.py after     compares, and removes what the attack left in the scandir, so that the next
                       attack finds it in the same state; prints one line for each failed check, and
                       ends with 1 if there is one
    check.py again     records the files anew, because root has added something since
    check.py restarted compares in a container that was stopped and started since

Root runs this where the supervisor runs. Variables say where everything is; see bed.rs.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time

SCANDIR = os.environ["S"]
VICTIMS = os.environ["V"]
SCRATCH = os.environ["T"]
PROGRAM = os.environ["G"]
STATE = os.environ["STATE"]
SUPERVISOR = int(os.environ["P"])
AUTHORITY = int(os.environ["AUTHORITY"])
ATTACKER = int(os.environ["ATTACKER"])
BYSTANDERS = {"bystander-other": int(os.environ["OTHER"]), "bystander-same": int(os.environ["SAME"])}
WAIT_LIMIT_MS = "30000"
# Files outside of the victims' own tree that no attack may change or make.
SYSTEM = [
    "/etc/passwd", "/etc/passwd-", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d",
    "/etc/crontab", "/etc/cron.d", "/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/profile", "/etc/profile.d", "/etc",
    "/etc/event", "/etc/supervise", "/etc/hosts", "/root", "/root/.ssh", "/root/.bashrc", "/root/.profile", "/usr",
    "/usr/bin", "/bin/sh", "/usr/bin/env", "/usr/local/bin", "/dev/null", "/dev/zero", "/proc", "/",
]  # fmt: skip


# Volumes of another user, which an operator mounted below the agent's home and inside the scandir,
# in beds that have them.
MOUNTED = [f"{os.environ['H']}/mounted", f"{SCANDIR}/.mounted"]

# What the engine writes when it starts a container.
BY_ENGINE = ["/etc/hosts", "/etc", "/"]


def describe(path, times):
    try:
        found = os.lstat(path)
    except OSError as error:
        return os.strerror(error.errno)
    facts = [stat.filemode(found.st_mode), found.st_uid, found.st_gid]
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            facts.append(hashlib.sha256(file.read()).hexdigest())
    elif stat.S_ISLNK(found.st_mode):
        facts.append(os.readlink(path))
    elif stat.S_ISCHR(found.st_mode):
        facts.append(found.st_rdev)
    if times and not stat.S_ISFIFO(found.st_mode):
        facts.append(found.st_mtime_ns)
    return facts


def manifest():
    paths = {path: False for path in SYSTEM}
    for tree in (VICTIMS, os.path.join(SCANDIR, ".s6-svscan")):
        for directory, _, files in os.walk(tree):
            if "refused" in directory:
                continue
            paths[directory] = tree == VICTIMS
            # The control FIFO and the lock may change.
            paths.update({os.path.join(directory, name): tree == VICTIMS for name in files})
    for tree in filter(os.path.isdir, MOUNTED):
        for directory, _, files in os.walk(tree):
            paths.update({os.path.join(directory, name): True for name in [".", *files]})
    return {path: describe(path, times) for path, times in paths.items()}


def tool(*words, user=None):
    command = [PROGRAM, "s6", *words]
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)


def must(*words, user=None):
    done = tool(*words, user=user)
    if done.returncode != 0:
        raise Fallen(f"`{' '.join(words)}` of uid {user} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


class Fallen(Exception):
    pass


def payload(path):
    """A program that records as whom it runs."""
    with open(path, "w") as file:
        file.write(
            f"#!/bin/sh\nid -u >> {SCRATCH}/ran 2>/dev/null\n"
            f"test $(id -u) != {AUTHORITY} || echo \"$0\" >> {STATE}.pwned\nexec sleep 3600\n"
        )
    os.chmod(path, 0o755)


def give(path, user):
    os.chown(path, user, user)
    if os.path.isdir(path):
        for name in os.listdir(path):
            give(os.path.join(path, name), user)


def make_slot(name, user, body, logged):
    new = os.path.join(SCANDIR, "." + name)
    os.mkdir(new, 0o755)
    with open(f"{new}/run", "w") as file:
        file.write(body)
    os.chmod(f"{new}/run", 0o755)
    with open(f"{new}/timeout-kill", "w") as file:
        file.write("5000\n")
    if logged:
        os.mkdir(f"{new}/log")
        with open(f"{new}/log/run", "w") as file:
            file.write(f'#!{PROGRAM} log\ndirectory = "lines"\nforward = "off"\n')
        os.chmod(f"{new}/log/run", 0o755)
    give(new, user)
    os.rename(new, os.path.join(SCANDIR, name))
    tell_to_scan(b"a")
    until(f"{name} to be supervised", lambda: tool("s6-svok", f"{SCANDIR}/{name}").returncode == 0)
    must("s6-svwait", "-t", WAIT_LIMIT_MS, "-u", f"{SCANDIR}/{name}")


def tell_to_scan(letter):
    """Asks for a scan. Unlike s6-svscanctl, does not wait for the attacker's slots."""
    try:
        fd = os.open(f"{SCANDIR}/.s6-svscan/control", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, letter)
        os.close(fd)
    except OSError as error:
        raise Fallen(f"nobody can ask for a scan: {error}")


def pid_of(name):
    return int(must("s6-svstat", "-o", "pid", f"{SCANDIR}/{name}"))


def until(what, true):
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise Fallen(f"waited in vain for {what}")
        time.sleep(0.01)


def has_logged(name, pid):
    def look():
        try:
            with open(f"{SCANDIR}/{name}/log/lines/current", errors="replace") as file:
                return f"I am {pid}\n" in file.read()
        except OSError:
            return False

    until(f"the line of process {pid} in the log of {name}", look)


def victims():
    os.makedirs(f"{VICTIMS}/directory", 0o755)
    # A home of an agent whose user is the supervisor's.
    os.makedirs(f"{VICTIMS}/home/profiles/coder", 0o755)
    os.makedirs(f"{VICTIMS}/home/logs/gateways/coder", 0o755)
    for name in ("SOUL.md", "gateway_state.json", ".env"):
        with open(f"{VICTIMS}/home/profiles/coder/{name}", "w") as file:
            file.write('{"gateway_state": "stopped"}\n')
    os.mkdir(f"{VICTIMS}/closed", 0o700)
    os.mkdir(f"{VICTIMS}/service", 0o755)
    for name, mode in (("secret", 0o600), ("readable", 0o644), ("closed/file", 0o644), ("directory/file", 0o600)):
        with open(f"{VICTIMS}/{name}", "w") as file:
            file.write("precious\n")
        os.chmod(f"{VICTIMS}/{name}", mode)
    # A service directory of the supervisor's user that is not in the scandir.
    payload(f"{VICTIMS}/service/run")
    payload(f"{VICTIMS}/program")
    os.mkfifo(f"{VICTIMS}/fifo", 0o600)
    with open(f"{VICTIMS}/signal-script", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(f"{VICTIMS}/signal-script", 0o755)
    shutil.copy2(f"{VICTIMS}/signal-script", f"{SCANDIR}/.s6-svscan/SIGUSR1")
    os.chown(f"{SCANDIR}/.s6-svscan/SIGUSR1", AUTHORITY, AUTHORITY)
    give(VICTIMS, AUTHORITY)


def furnish(volume):
    """Fills another user's volume with files that root's walks could harm."""
    os.makedirs(f"{volume}/deep/er", exist_ok=True)
    # Files of root, files of another user, and a program that only root may read.
    for name, user in (("of-root", 0), ("of-other", BYSTANDERS["bystander-other"]), ("deep/er/of-root", 0)):
        with open(f"{volume}/{name}", "w") as file:
            file.write("precious\n")
        os.chown(f"{volume}/{name}", user, user)
    os.chown(volume, BYSTANDERS["bystander-other"], BYSTANDERS["bystander-other"])
    os.chmod(volume, 0o755)


def prepare():
    victims()
    for volume in filter(os.path.isdir, MOUNTED):
        furnish(volume)
    for name, user in BYSTANDERS.items():
        make_slot(name, user, "#!/bin/sh\necho I am $$\nexec sleep 3600\n", True)
    state = {"pids": {name: pid_of(name) for name in BYSTANDERS}, "started": started(SUPERVISOR)}
    for name, pid in state["pids"].items():
        has_logged(name, pid)
    state["manifest"] = manifest()
    # `gatevisor up` has a helper process.
    state["helpers"] = [list(key) for key in strangers()]
    save(state)


def again():
    with open(STATE) as file:
        state = json.load(file)
    state["manifest"] = manifest()
    save(state)


def save(state):
    with open(STATE, "w") as file:
        json.dump(state, file)


def started(pid):
    """Returns what tells a process from a later one with its number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            words = file.read().rsplit(") ", 1)[1].split()
            return None if words[0] in "ZX" else words[19]
    except OSError:
        return None


def processes():
    """Returns the parent, users and command line of each process."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/status", errors="replace") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line)
            with open(f"/proc/{entry}/cmdline", errors="replace") as file:
                words = file.read().split("\0")
            if lines["State"].split()[0] in "ZX":
                continue
            users = {int(number) for number in lines["Uid"].split()}
            found[int(entry)] = (int(lines["PPid"]), users, words, int(lines.get("CapEff", "0"), 16))
        except (OSError, KeyError):
            pass
    return found


def strangers():
    """Returns the processes below the supervisor that have its user without being one of its own
    helpers."""
    found = processes()
    known = {SUPERVISOR, *(pid_of(name) for name in BYSTANDERS)}

    def below(pid):
        while pid in found and pid != SUPERVISOR:
            pid = found[pid][0]
        return pid == SUPERVISOR

    def is_stranger(pid):
        _, users, words, capable = found[pid]
        ours = AUTHORITY in users or (AUTHORITY == 0 and capable != 0)
        return ours and pid not in known and words[1:2] != ["logd"] and below(pid)

    return {(pid, started(pid)): found[pid] for pid in found if is_stranger(pid)}


def after():
    with open(STATE) as file:
        state = json.load(file)
    fallen = []

    def step(what, *args):
        try:
            return what(*args)
        except Fallen as error:
            fallen.append(str(error))

    if started(SUPERVISOR) != state["started"]:
        report(["the supervisor is gone"])
    for name, user in BYSTANDERS.items():
        before = state["pids"][name]
        now = step(pid_of, name)
        if now != before:
            fallen.append(f"{name} was process {before} and is {now}")
        slot = f"{SCANDIR}/{name}"
        step(lambda: must("s6-svc", "-wD", "-T", WAIT_LIMIT_MS, "-d", slot, user=user))
        step(lambda: must("s6-svc", "-wu", "-T", WAIT_LIMIT_MS, "-u", slot, user=user))
        now = step(pid_of, name)
        if now:
            step(has_logged, name, now)
        state["pids"][name] = now
    # The supervisor answers a scan.
    step(make_slot, "probe", BYSTANDERS["bystander-other"], "#!/bin/sh\nexec sleep 3600\n", False)
    step(withdraw, "probe")
    fallen += differences(state["manifest"])
    fallen += proofs()
    helpers = {tuple(key) for key in state["helpers"]}
    seen = {key: facts for key, facts in strangers().items() if key not in helpers}
    end = time.monotonic() + 10
    while seen and time.monotonic() < end:
        # Before its exec, a process has the supervisor's user for an instant.
        time.sleep(0.02)
        seen = {key: seen[key] for key in seen.keys() & strangers().keys()}
    fallen += [f"a process of uid {AUTHORITY} that is not the supervisor's: {key} {facts}" for key, facts in seen.items()]
    save(state)
    try:
        clean()
    except (Fallen, OSError) as error:
        fallen.append(f"afterwards: {error}")
    report(fallen)


def differences(before):
    """Returns what differs from the recorded manifest. A boot makes `.s6-svscan` anew."""
    now = manifest()
    booted = sys.argv[1] == "restarted"
    return [
        f"{path} was {before.get(path)} and is {now.get(path)}"
        for path in sorted(set(now) | set(before))
        if now.get(path) != before.get(path) and not (booted and (is_made_anew(path) or path in BY_ENGINE))
    ]


def is_made_anew(path):
    return path.startswith(SCANDIR) and not path.startswith(f"{SCANDIR}/.mounted")


def proofs():
    """Returns what programs of the attacker recorded that they must not have been able to do."""
    fallen = []
    if os.path.exists(f"{STATE}.pwned"):
        with open(f"{STATE}.pwned") as file:
            fallen.append(f"code of the attacker's choice ran as uid {AUTHORITY}: {sorted(set(file.read().split()))}")
        os.unlink(f"{STATE}.pwned")
    for proof, meaning in (("ran", f"the attacker's program ran as uid {AUTHORITY}"), ("leak", "a process could be looked into")):
        try:
            with open(f"{SCRATCH}/{proof}", errors="replace") as file:
                lines = [line.strip() for line in file]
        except OSError:
            continue
        if proof == "leak" or str(AUTHORITY) in lines:
            fallen.append(f"{meaning}: {sorted(set(lines))[:5]}")
        if AUTHORITY == 0 and str(BYSTANDERS["bystander-other"]) in lines:
            fallen.append("the attacker's program ran as another user's service")
    return fallen


def report(fallen):
    for line in fallen[:30]:
        print(line)
    sys.exit(1 if fallen else 0)


def restarted():
    """After the container was stopped and started, checks that nothing of root has changed, and
    that it supervises as before."""
    with open(STATE) as file:
        state = json.load(file)
    fallen = differences(state["manifest"])
    fallen += proofs()
    with open("/proc/1/cmdline", errors="replace") as file:
        words = file.read().split("\0")
    if "supervise" not in words:
        fallen.append(f"process 1 is no supervisor: {words}")
    # A bystander of another user is supervised again, obeys and logs.
    name, user = "bystander-other", BYSTANDERS["bystander-other"]
    slot = f"{SCANDIR}/{name}"
    try:
        make_slot(name, user, "#!/bin/sh\necho I am $$\nexec sleep 3600\n", True)
        must("s6-svc", "-wD", "-T", WAIT_LIMIT_MS, "-d", slot, user=user)
        must("s6-svc", "-wu", "-T", WAIT_LIMIT_MS, "-u", slot, user=user)
        has_logged(name, pid_of(name))
        withdraw(name)
    except (Fallen, OSError) as error:
        fallen.append(f"it does not supervise as before: {error}")
    report(fallen)


def remove(path):
    """Removes what is there. The watcher of the profiles may do so at the same time."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def withdraw(name):
    gone = f"{SCANDIR}/.gone-{name}-{time.monotonic_ns()}"
    os.rename(f"{SCANDIR}/{name}", gone)
    until(f"{name} to be let go", lambda: tool("s6-svok", gone).returncode != 0)
    shutil.rmtree(gone, ignore_errors=True)


def clean():
    open(f"{SCRATCH}/stop", "w").close()
    keep = {*BYSTANDERS, ".s6-svscan"}
    names = [name for name in os.listdir(os.fsencode(SCANDIR)) if name.decode(errors="replace") not in keep]
    root = os.fsencode(SCANDIR)
    gone = []
    for number, name in enumerate(names):
        if name.startswith(b"."):
            continue
        to = os.path.join(root, b".gone-%d-%d" % (number, time.monotonic_ns()))
        # The watcher of the profiles removes the directories of removed profiles at a time of its
        # own.
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(root, name), to)
            gone.append(to)
    # After a complete rescan, the supervisor remembers nothing of the attack.
    tell_to_scan(b"h")

    def held():
        directories = [path for path in gone[:50] if os.path.isdir(path) and not os.path.islink(path)]
        return [path for path in directories if tool("s6-svok", os.fsdecode(path)).returncode == 0]

    until("what the attack left to be let go", lambda: not held())
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith(b".") and name != b".s6-svscan":
            remove(path)
    for name in os.listdir(SCRATCH):
        remove(os.path.join(SCRATCH, name))


if __name__ == "__main__":
    os.umask(0o022)
    try:
        {"prepare": prepare, "victims": victims, "after": after, "restarted": restarted, "again": again}[sys.argv[1]]()
    except Fallen as error:
        print(error)
        sys.exit(1)
