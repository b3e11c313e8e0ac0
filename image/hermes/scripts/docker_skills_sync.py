"""Brings the skills of a home up to date with the installed ones, and says in one line what
changed.

    python docker_skills_sync.py

Hermes' own program does the work. It prints a line for each skill, which would be most of what a
new container says; they are printed only if it fails.
"""

import contextlib
import io
import os
import pathlib
import runpy
import sys

from home_files import endless, shown

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "tools" / "skills_sync.py"


def main():
    # Hermes reads its configuration without a limit, and the boot would wait for that.
    if (entry := endless(pathlib.Path(os.environ["HERMES_HOME"]))) is not None:
        print(f"skills: left as they are, because {shown(entry)} is no regular file")
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(PROGRAM), run_name="__main__")
    except SystemExit as end:
        if end.code not in (0, None):
            print(said.getvalue(), end="")
            raise
    except BaseException:
        print(said.getvalue(), end="")
        raise
    last = said.getvalue().strip().rpartition("\n")[2]
    if last and " 0 new, 0 updated," not in last:
        print(f"skills: {last}")


if __name__ == "__main__":
    sys.exit(main())
