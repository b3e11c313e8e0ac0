#!/usr/bin/env python3
"""Measures how long it takes to publish a small file again and again, in microseconds: by `rename`
over the old file, and by exchanging the two files and removing the old one, as the supervisor does.

    bench/publish.py [--times N] [DIRECTORY…]

Name directories on different file systems to compare these. The default is /tmp and /dev/shm.
"""

import argparse
import ctypes
import os
import pathlib
import statistics
import tempfile
import time

AT_FDCWD, RENAME_EXCHANGE = -100, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def exchange(one, other):
    """Exchanges two files."""
    if LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def by_rename(new, name):
    os.rename(new, name)


def by_exchange(new, name):
    exchange(new, name)
    os.unlink(new)


def measure(directory, put, times):
    """Returns how long each publication took, in microseconds."""
    name, new = directory / "status", directory / "status.new"
    name.write_bytes(b"x" * 35)
    figures = []
    for _ in range(times):
        began = time.perf_counter()
        new.write_bytes(b"y" * 35)
        put(new, name)
        figures.append((time.perf_counter() - began) * 1e6)
    return figures


def kind(path):
    """Returns the file system that a path is on."""
    mounts = [line.split() for line in open("/proc/self/mounts")]
    fits = [words for words in mounts if pathlib.Path(path).resolve().is_relative_to(words[1])]
    return max(fits, key=lambda words: len(words[1]))[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("directories", nargs="*", default=["/tmp", "/dev/shm"])
    options = parser.parse_args()
    print(f"{options.times} times each, in microseconds\n")
    print("| | rename median | rename p99 | exchange median | exchange p99 |\n|---|---|---|---|---|")
    for place in options.directories:
        cells = []
        for put in by_rename, by_exchange:
            with tempfile.TemporaryDirectory(dir=place) as directory:
                figures = measure(pathlib.Path(directory), put, options.times)
            cells += [statistics.median(figures), statistics.quantiles(figures, n=100)[98]]
        print(f"| {kind(place)} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
