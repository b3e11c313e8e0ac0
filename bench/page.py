#!/usr/bin/env python3
"""Measures the page of `gatevisor web`: its first paint, and a server with many clients.

    bench/page.py [--program FILE] [--part NAME …] [--services N] [--clients N] [--seconds S]

  paint  Headless Chromium loads the page 20 times at a loopback address, each time without a
         cache: milliseconds until the first contentful paint.
  load   N clients (200) receive the events of a home with N services (500), and one service is
         restarted each second, for S seconds (30): memory of the server, its processor time, and
         that of the supervisor, with and without the clients.

Machines differ and are noisy, and the load average is printed: compare figures within one run,
never across runs. Run `make build` first.
"""

import argparse
import json
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

from liveness import processor_seconds
from measures import agent_definition, smaps


def until(what, condition, seconds=300):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.2)
    return found


class Site:
    """A home with services, its supervisor, and a server of its page."""

    def __init__(self, program, services):
        self.place = tempfile.TemporaryDirectory(prefix="gatevisor-bench-")
        root = pathlib.Path(self.place.name)
        home = root / "home"
        (root / "agent.toml").write_text(agent_definition(["sleep", "1000000"]))
        self.names = [f"g{number:03}" for number in range(services)]
        for name in self.names:
            profile = home / "profiles" / name
            profile.mkdir(parents=True)
            (profile / "agent.conf").touch()
            (profile / "gateway_state.json").write_text('{"desired_state": "running", "gateway_state": "running"}')
        self.words = [program, "--home", str(home), "--agent", str(root / "agent.toml")]
        self.said = root / "web.said"
        self.processes = []
        environment = {**os.environ, "BENCH_HOME": str(root)}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "env": environment}
        self.environment = environment
        self.supervisor = subprocess.Popen([*self.words, "up", "--quiet"], stderr=subprocess.DEVNULL, **quiet)
        self.processes.append(self.supervisor)
        until("all services", lambda: self.up() == services)
        with open(self.said, "w") as said:
            self.server = subprocess.Popen([*self.words, "web", "--listen", "127.0.0.1:0"], stderr=said, **quiet)
        self.processes.append(self.server)
        until("the server", lambda: "tokens for programs" in self.said.read_text())
        self.address = self.said.read_text().split("the page is at http://")[1].split("/")[0]
        self.token = (home / ".gatevisor-web" / "token").read_text().strip()

    def run(self, *words):
        return subprocess.run([*self.words, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, env=self.environment, check=False).stdout

    def up(self):
        lines = self.run("--json", "status").splitlines()
        return sum(json.loads(line).get("up") is True for line in lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            process.wait()
        self.place.cleanup()


class Driver:
    """Headless Chromium, driven by chromedriver."""

    def __init__(self):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0)
        while "successfully on port " not in (line := self.process.stdout.readline()):
            pass
        self.base = f"http://127.0.0.1:{line.split('successfully on port ')[1].split('.')[0]}"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = "/session/" + self.post("/session", wanted)["sessionId"]

    def post(self, path, body):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def script(self, script):
        return self.post(f"{self.session}/execute/sync", {"script": script, "args": []})

    def end(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def paint(site):
    driver = Driver()
    try:
        link = site.run("web", "--link").strip()
        driver.post(f"{driver.session}/url", {"url": link})
        tools = {"cmd": "Network.setCacheDisabled", "params": {"cacheDisabled": True}}
        driver.post(f"{driver.session}/goog/cdp/execute", {"cmd": "Network.enable", "params": {}})
        driver.post(f"{driver.session}/goog/cdp/execute", tools)
        find = "const one = performance.getEntriesByName('first-contentful-paint')[0]; return one ? one.startTime : null"
        times = []
        for _ in range(20):
            driver.post(f"{driver.session}/refresh", {})
            times.append(until("a paint", lambda: driver.script(find)))
        print(f"first contentful paint, 20 loads: median {statistics.median(times):.0f} ms, "
              f"least {min(times):.0f} ms, most {max(times):.0f} ms")
    finally:
        driver.end()


def client(site):
    host, port = site.address.split(":")
    one = socket.create_connection((host, int(port)))
    one.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {site.address}\r\nAuthorization: Bearer {site.token}\r\n\r\n".encode())
    one.setblocking(False)
    return one


def watch(site, clients, seconds):
    """Restarts a service each second; returns the bytes of all clients, and what it cost."""
    before = [processor_seconds(process.pid) for process in site.processes]
    most = received = 0
    end = time.monotonic() + seconds
    due, number = time.monotonic(), 0
    while time.monotonic() < end:
        if time.monotonic() >= due:
            site.run("gateway", "restart", "--no-wait", site.names[number % len(site.names)])
            due, number = due + 1, number + 1
        ready = select.select(clients, [], [], 0.1)[0] if clients else time.sleep(0.1) or []
        for one in ready:
            received += len(one.recv(1 << 20))
        most = max(most, smaps(site.server.pid, "Pss"))
    after = [processor_seconds(process.pid) for process in site.processes]
    supervisor, server = (100 * (b - a) / seconds for a, b in zip(before, after))
    print(f"{len(clients)} clients, {len(site.names)} services, {number} restarts in {seconds} s: server at most "
          f"{most / 1024:.0f} MB and {server:.0f} % of a processor, supervisor {supervisor:.1f} %, "
          f"{received / 1e6:.0f} MB received")


def load(site, clients, seconds):
    watch(site, [], seconds)
    all_of_them = [client(site) for _ in range(clients)]
    watch(site, all_of_them, seconds)
    for one in all_of_them:
        one.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default=str(pathlib.Path(__file__).parent.parent / "target/gatevisor"))
    parser.add_argument("--part", action="append", choices=["paint", "load"])
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    parts = options.part or ["paint", "load"]
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    if "paint" in parts:
        with Site(options.program, 5) as site:
            paint(site)
    if "load" in parts:
        with Site(options.program, options.services) as site:
            load(site, options.clients, options.seconds)
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
