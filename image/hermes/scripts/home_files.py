"""What the scripts of a boot look at before Hermes reads a home, which it does without a limit."""

import stat

# Below the top of the home, what the steps of a boot read.
DEEPER = ("skills/.bundled_manifest",)


def endless(home):
    """Returns the first entry whose reading could wait or never end, a FIFO or a device; else
    None."""
    for entry in [*sorted(home.iterdir()), *(home / name for name in DEEPER)]:
        try:
            mode = entry.stat().st_mode
        except OSError:
            continue
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return entry
    return None


def shown(path):
    """Returns a path as it may be printed: its name is the agent's to choose."""
    return ascii(str(path))
