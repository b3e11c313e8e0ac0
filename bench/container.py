#!/usr/bin/env python3
"""Measures a container's start and end side by side, in one run: our init, Docker's own (--init),
and none.

    bench/container.py [--rounds R] [--image NAME] [--gateways N] [--json FILE]

The image is the same each time, the entry point is not. Figures are milliseconds of whole
processes, and medians of R interleaved rounds:
  true      docker run --rm IMAGE true
  idle      docker stop of a container that does nothing
  gateways  docker stop of a container with N running gateways, each of which ends by itself (only
            ours)
A container without an init has no handler for SIGTERM, so Docker waits its ten seconds and kills
it.

Machines differ and are noisy: compare figures within one run, never across runs. Run `make image`
first.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

WAYS = {
    "none": ["--entrypoint", "{command}"],
    "docker --init": ["--init", "--entrypoint", "{command}"],
    "gatevisor": [],
}

# The command announces itself, because a container that is stopped while it boots tells nothing
# about stopping.
BOOTED = "echo booted; exec sleep infinity"


def docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def milliseconds(*words):
    began = time.monotonic()
    docker(*words)
    return (time.monotonic() - began) * 1000


def words_for(way, image, command, *rest):
    options = [option.format(command=command) for option in WAYS[way]]
    first = [] if options else [command]
    return [*options, image, *first, *rest]


def stop(container):
    took = milliseconds("stop", container)
    docker("rm", "--force", "--volumes", container)
    return took


def booted(container):
    """Returns when the container's command runs."""
    script = f"grep -qm1 booted < <(exec docker logs --follow {container} 2>&1)"
    subprocess.run(["bash", "-c", script], check=True)
    return container


def with_gateways(image, count):
    words = ["--env", "HERMES_GATEWAY_MAX_STARTS=1000", image, "sh", "-c", BOOTED]
    container = booted(docker("run", "--detach", *words))
    for number in range(count):
        name = f"bench{number}"
        docker("exec", "--user", "10000", container, "hermes", "profile", "create", name)
        docker("exec", "--user", "10000", container, "hermes", "-p", name, "gateway", "start")
    for number in range(count):
        log = f"/opt/data/profiles/bench{number}/logs/gateway.log"
        script = f"grep -qm1 'Gateway housekeeping started' < <(exec tail -n +1 -F {log} 2>/dev/null)"
        docker("exec", "--user", "10000", container, "bash", "-c", script)
    return container


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", default="gatevisor:latest")
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    found = {way: {"true": [], "idle": [], "gateways": []} for way in WAYS}
    for turn in range(options.rounds):
        for way, figures in found.items():
            figures["true"].append(milliseconds("run", "--rm", *words_for(way, options.image, "true")))
            words = words_for(way, options.image, "sh", "-c", BOOTED)
            figures["idle"].append(stop(booted(docker("run", "--detach", *words))))
        found["gatevisor"]["gateways"].append(stop(with_gateways(options.image, options.gateways)))
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    print(f"medians of {options.rounds} rounds, {options.gateways} gateways\n")
    print("| | run --rm true, ms | stop idle, ms | stop with gateways, ms |\n|---|---:|---:|---:|")
    for way, figures in found.items():
        cells = [f"{statistics.median(figures[what]):.0f}" if figures[what] else "" for what in ("true", "idle", "gateways")]
        print(f"| {way} | {' | '.join(cells)} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


main()
