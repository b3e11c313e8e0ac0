"""The supervisors that are measured side by side: how each lays out a service, starts, adds, asks
and stops."""

import os
import pathlib
import shutil
import signal
import subprocess

from measures import ROOT, agent_definition, family, is_payload

BINARY = (ROOT / "target" / "gatevisor").resolve()


class Peer:
    """A supervisor of service directories. `run` is a copy of the payload, so nothing else is
    executed."""

    name = ""
    needs = ""

    def __init__(self, work, payload):
        self.work, self.payload = work, payload
        self.scandir, self.logs = work / "services", work / "logs"
        self.scandir.mkdir()
        self.logs.mkdir()

    @classmethod
    def version(cls):
        """Returns how its package names it."""
        said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", cls.needs], capture_output=True, text=True).stdout
        return f"{cls.needs} {said} of this distribution" if said else ""

    def script(self, path, text):
        path.write_text(text)
        path.chmod(0o755)

    def service(self, name):
        place = self.scandir / name
        (place / "log").mkdir(parents=True)
        shutil.copy2(self.payload, place / "run")
        self.script(place / "log" / "run", self.log_script(name.strip(".")))
        return place

    def log_script(self, name):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def pid_of(self, name):
        status = (self.scandir / name / "supervise" / "status").read_bytes()
        return int.from_bytes(status[24:32], "big")

    def add(self, name):
        """Publishes one more service; returns when it is told, not when it runs."""
        self.service("." + name)
        os.rename(self.scandir / ("." + name), self.scandir / name)
        self.scan()

    def scan(self):
        """Has the supervisor look at the scandir."""
        fd = os.open(self.scandir / ".s6-svscan" / "control", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"a")
        os.close(fd)

    def prepare(self, name):
        """Lays out a service that a command then registers."""

    def commands(self):
        """Returns what users call: {what: words}. `NAME` stands for a service's name."""
        return {}

    def stop(self, process):
        process.send_signal(signal.SIGTERM)


class Core(Peer):
    name = "gatevisor supervise"

    @classmethod
    def version(cls):
        return "this tree: the engine alone, on service directories made by hand"

    def log_script(self, name):
        return f'#!{BINARY} log\ndirectory = "{self.logs}/{name}"\nforward = "off"\n'

    def command(self):
        return [str(BINARY), "supervise", str(self.scandir)]


class Up(Peer):
    """What users start: it makes the service directories from profiles, watches gateways and
    profiles."""

    name = "gatevisor up"

    def __init__(self, work, payload):
        super().__init__(work, payload)
        self.home = work / "home"
        self.scandir = self.home / "run/service"
        self.agent = work / "agent.toml"
        self.agent.write_text(agent_definition([str(payload)]))
        self.words = [str(BINARY), "--home", str(self.home), "--agent", str(self.agent)]

    @classmethod
    def version(cls):
        return "this tree: the whole product, from profiles"

    def service(self, name):
        profile = self.home / "profiles" / name
        profile.mkdir(parents=True)
        (profile / "agent.conf").touch()
        (profile / "gateway_state.json").write_text('{"desired_state": "running", "gateway_state": "running"}')

    def command(self):
        return [*self.words, "up", "--quiet"]

    def pid_of(self, name):
        pid = super().pid_of(f"gateway-{name}")
        return pid if is_payload(pid) else next(pid for pid in family(pid) if is_payload(pid))

    def prepare(self, name):
        self.service(name)

    def add(self, name):
        self.prepare(name)
        subprocess.run(self.register(name), check=True, capture_output=True)

    def register(self, name):
        return [*self.words, "gateway", "register", name, "--start"]

    def commands(self):
        return {
            "register and start one": self.register("NAME"),
            "state of all": [*self.words, "status"],
            "state of all, JSON": [*self.words, "status", "--json"],
            "stop one": [*self.words, "gateway", "stop", "s1"],
            "start one": [*self.words, "gateway", "start", "s1", "--no-wait"],
        }


class S6(Peer):
    name = "s6"
    needs = "s6"

    def log_script(self, name):
        # What users of s6 write, who have no need of a shell for this.
        return f"#!/usr/bin/execlineb -P\ns6-log n10 s1000000 T {self.logs}/{name}\n"

    def command(self):
        return ["s6-svscan", "-C" if self.has_capital_c() else "-c", "4000", str(self.scandir)]

    @staticmethod
    def has_capital_c():
        """Since 2.12 the number of services is given with -C."""
        return "-C" in subprocess.run(["s6-svscan", "-?"], capture_output=True, text=True).stderr

    def prepare(self, name):
        self.service("." + name)

    def commands(self):
        one, made = self.scandir / "s1", self.scandir / "NAME"
        register = (f"mv {self.scandir}/.NAME {made} && s6-svscanctl -a {self.scandir} && "
                    f"until s6-svok {made}; do :; done && s6-svwait -u {made}")
        return {
            "register and start one": ["sh", "-c", register],
            "state of all": ["sh", "-c", f"for one in {self.scandir}/*; do s6-svstat $one; done"],
            "stop one": ["s6-svc", "-wd", "-d", str(one)],
            "start one": ["s6-svc", "-wu", "-u", str(one)],
        }


class S6Ready(S6):
    """s6 starts a service that said that it was ready at once after its death, and any other after
    a second."""

    name = "s6, services say that they are ready"

    def service(self, name):
        place = super().service(name)
        (place / "notification-fd").write_text("3\n")
        return place

    def commands(self):
        return {}


class Runit(Peer):
    name = "runit"
    needs = "runit"

    def log_script(self, name):
        directory = self.logs / name
        directory.mkdir(exist_ok=True)
        return f"#!/bin/sh\nexec svlogd -tt {directory}\n"

    def command(self):
        return ["runsvdir", str(self.scandir)]

    def pid_of(self, name):
        return int((self.scandir / name / "supervise" / "pid").read_text())

    def add(self, name):
        self.service("." + name)
        os.rename(self.scandir / ("." + name), self.scandir / name)

    def stop(self, process):
        process.send_signal(signal.SIGHUP)

    def commands(self):
        return {
            "state of all": ["sh", "-c", f"sv status {self.scandir}/*"],
            "stop one": ["sv", "-w", "10", "down", f"{self.scandir}/s1"],
            "start one": ["sv", "-w", "10", "up", f"{self.scandir}/s1"],
        }


class Supervisord(Peer):
    name = "supervisord"
    needs = "supervisor"

    def service(self, name):
        text = (f"[program:{name}]\ncommand={self.payload}\nautorestart=true\nstartsecs=0\nredirect_stderr=true\n"
                f"stdout_logfile={self.logs}/{name}\nstdout_logfile_maxbytes=1000000\n")
        with open(self.work / "conf", "a") as conf:
            conf.write(text)

    def command(self):
        conf = self.work / "conf"
        head = (f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={self.work}/pid\n"
                f"[unix_http_server]\nfile={self.work}/sock\n[supervisorctl]\nserverurl=unix://{self.work}/sock\n"
                "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
                "supervisor.rpcinterface:make_main_rpcinterface\n")
        conf.write_text(head + conf.read_text())
        return ["supervisord", "-c", str(conf)]

    def control(self, *words):
        return ["supervisorctl", "-c", str(self.work / "conf"), *words]

    def pid_of(self, name):
        return int(subprocess.run(self.control("pid", name), capture_output=True, text=True).stdout)

    def add(self, name):
        self.service(name)
        subprocess.run(self.control("update"), check=True, capture_output=True)

    def commands(self):
        return {
            "state of all": self.control("status"),
            "stop one": self.control("stop", "s1"),
            "start one": self.control("start", "s1"),
        }


ALL = (Core, Up, S6, S6Ready, Runit, Supervisord)


def present():
    """Returns the peers that are installed."""
    programs = {"s6": "s6-svscan", "runit": "runsvdir", "supervisor": "supervisord"}
    return [kind for kind in ALL if not kind.needs or shutil.which(programs[kind.needs])]
