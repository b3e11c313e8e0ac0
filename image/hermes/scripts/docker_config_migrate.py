"""Brings config.yaml of a home up to the layout that this Hermes uses, with a copy made before.

    python docker_config_migrate.py        migrates $HERMES_HOME/config.yaml

The container runs it as the agent's user at each boot, before any gateway. A file of today's
layout, or one that is no YAML, is left alone. HERMES_SKIP_CONFIG_MIGRATION=1 leaves every file
alone. Ends with 1, with the original file in its place, if the migration fails.
"""

import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

from home_files import endless, shown

YES = ("1", "true", "yes", "on")
# What the migration may rewrite.
FILES = ("config.yaml", ".env")
# The newest copies that are kept of each file.
KEPT = 5


def say(text):
    print(f"config migration: {text}", flush=True)


def versions():
    """Returns the version of the file, and the one that this Hermes uses."""
    from hermes_cli.config import check_config_version

    return check_config_version()


def regular(path):
    """Returns whether this is a file, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def back_up(path, stamp):
    """Copies a file to a new name with its mode, and returns the copy."""
    for number in range(100):
        copy = path.with_name(f"{path.name}.bak-{stamp}" + (f"-{number}" if number else ""))
        try:
            # The copy of a file with secrets is never readable by others, not even for a moment.
            fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(fd, "wb") as target, path.open("rb") as source:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(copy, stat.S_IMODE(path.stat().st_mode))
        return copy
    raise FileExistsError(f"a hundred copies of {path.name} of this second")


def forget_old(path):
    copies = sorted(filter(regular, path.parent.glob(f"{path.name}.bak-[0-9]*")))
    for old in copies[:-KEPT]:
        old.unlink(missing_ok=True)


def restore(copies):
    for path, copy in copies.items():
        temporary = path.with_name(f".{path.name}.restored")
        shutil.copy2(copy, temporary)
        os.replace(temporary, path)


def migrate():
    """Runs Hermes' own migration without a terminal, so that it asks nothing; returns its exit code
    and output."""
    program = pathlib.Path(sys.executable).with_name("hermes")
    # In a session of its own Hermes cannot open the container's terminal.
    process = subprocess.Popen(
        [str(program), "config", "migrate"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    finally:
        # Whoever ends this script at the end of its time ends the migration too.
        process.kill()
        process.wait()
    return process.returncode, output


def main():
    if os.environ.get("HERMES_SKIP_CONFIG_MIGRATION", "").strip().lower() in YES:
        return 0
    home = pathlib.Path(os.environ["HERMES_HOME"])
    if not regular(home / "config.yaml"):
        return 0
    if (entry := endless(home)) is not None:
        say(f"config.yaml stays as it is, because {shown(entry)} is no regular file")
        return 1
    before, wanted = versions()
    if before >= wanted:
        return 0
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    copies = {path: back_up(path, stamp) for name in FILES if regular(path := home / name)}
    code, output = 1, ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        code, output = migrate()
    finally:
        after, _ = versions()
        if code != 0 or after < wanted:
            restore(copies)
            for copy in copies.values():
                copy.unlink(missing_ok=True)
    if code != 0 or after < wanted:
        say(f"config.yaml stays at version {before}: `hermes config migrate` ended with {code}")
        for line in output.strip().splitlines()[-5:]:
            say(f"  {line}")
        return 1
    for path in copies:
        forget_old(path)
    say(f"config.yaml: version {before} -> {after}; the former file is {copies[home / 'config.yaml'].name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
