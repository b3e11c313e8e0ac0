"""Moves Hermes Agent from the virtual environment's site-packages to ROOT, and lets Python find it there.

    ROOT/.venv/bin/python install-hermes.py ROOT

Hermes believes that it is installed in the directory that holds its packages, and looks there for
.install_method, docker/ and skills/. In site-packages it would believe that pip installed it for a
user.
"""

import importlib.metadata
import pathlib
import shutil
import sys
import sysconfig


def main():
    root = pathlib.Path(sys.argv[1])
    packages = pathlib.Path(sysconfig.get_path("purelib"))
    files = importlib.metadata.files("hermes-agent")
    # Commands (../../../bin) and the files that describe the package stay.
    entries = {file.parts[0] for file in files}
    entries = {entry for entry in entries if entry not in ("..", "__pycache__") and not entry.endswith(".dist-info")}
    for entry in sorted(entries):
        shutil.move(packages / entry, root / entry)
    (packages / "hermes-root.pth").write_text(f"{root}\n", encoding="utf-8")
    (root / ".install_method").write_text("docker\n", encoding="utf-8")
    print(f"{len(entries)} packages and modules of Hermes are in {root}")


main()
