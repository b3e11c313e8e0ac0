#!/usr/bin/env python3
"""A bot in plain asyncio that tells its supervisor what it does, by sd_notify.

    asyncio-bot.py PROFILE HOME

Answers each line that is written to the socket HOME/chat with the same line, after SECONDS of
HOME/bot.conf. Sends READY=1 when it listens, WATCHDOG=1 twice in the time that it is given,
STATUS=… whenever its work changes, and STOPPING=1 before it ends. While HOME/drain exists, it takes
no new lines; HOME/work.json says how many are under way. SIGTERM ends it with 0, and SIGUSR1 with
75, which asks to be started again; both let it end what is under way. Without HOME/bot.conf it ends
with 78.
"""

import asyncio
import json
import os
import signal
import socket
import sys


def say(line):
    """Write a line to the log, if anybody reads it."""
    try:
        print(line, flush=True)
    except OSError:
        # What could not be written is not tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def notify(*lines):
    """Send these lines to the supervisor, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            say(f"nobody receives what it does: {error}")


class Bot:
    """Answers lines, and knows how many are under way."""

    def __init__(self, home, seconds):
        self.home, self.seconds = home, seconds
        self.turns, self.draining, self.told = 0, False, None
        self.ends = asyncio.get_running_loop().create_future()

    def path(self, name):
        return os.path.join(self.home, name)

    def tell(self):
        """Say what it does, to the supervisor and in work.json, if that has changed."""
        now = {"pid": os.getpid(), "turns": self.turns, "draining": self.draining}
        if now == self.told:
            return
        self.told = now
        with open(self.path("work.json.new"), "w", encoding="utf-8") as file:
            json.dump(now, file)
        os.replace(self.path("work.json.new"), self.path("work.json"))
        notify(f"STATUS={self.turns} turns{', draining' if self.draining else ''}")

    async def chat(self, reader, writer):
        """Answer the lines of one conversation."""
        while line := await reader.readline():
            if self.draining or self.ends.done():
                writer.write(b"later\n")
                continue
            self.turns += 1
            self.tell()
            await asyncio.sleep(self.seconds)
            writer.write(line)
            self.turns -= 1
            self.tell()
        writer.close()

    async def look(self):
        """See whether somebody wants it to drain."""
        while True:
            self.draining = os.path.exists(self.path("drain"))
            self.tell()
            await asyncio.sleep(0.2)

    def leave(self, code, why):
        if not self.ends.done():
            say(f"leaving: {why}")
            notify("STOPPING=1", f"STATUS={why}, {self.turns} turns left")
            self.ends.set_result(code)

    async def run(self):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.leave, 0, "SIGTERM")
        loop.add_signal_handler(signal.SIGUSR1, self.leave, 75, "a restart is wanted")
        if os.path.exists(self.path("chat")):
            os.unlink(self.path("chat"))
        server = await asyncio.start_unix_server(self.chat, self.path("chat"))
        helpers = [loop.create_task(self.look()), loop.create_task(watchdog())]
        notify("READY=1")
        code = await self.ends
        while self.turns:
            await asyncio.sleep(0.05)
        server.close()
        for helper in helpers:
            helper.cancel()
        return code


async def watchdog():
    """Show that the event loop works, twice in the time that the supervisor gives."""
    microseconds = int(os.environ.get("WATCHDOG_USEC") or 0)
    while microseconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(microseconds / 2_000_000)


async def main():
    profile, home = sys.argv[1], sys.argv[2]
    try:
        with open(os.path.join(home, "bot.conf"), encoding="utf-8") as file:
            settings = dict(line.strip().split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        say("there is no bot.conf")
        return 78
    say(f"{profile} answers in {home}/chat")
    return await Bot(home, float(settings.get("SECONDS", "0.1"))).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
