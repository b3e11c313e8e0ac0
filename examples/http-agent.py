#!/usr/bin/env python3
"""A gateway reduced to what a supervisor sees of it.

    http-agent.py PROFILE HOME

Reads PORT (8700 where none is set) and, for experiments, EXIT_CODE from HOME/.env, answers GET
/health on 127.0.0.1, says on standard output what it does, and ends on SIGTERM with 0 and on
SIGUSR1 with 75, which asks to be started again. With a PORT that it can never have it ends with 78,
which says that another attempt is useless; with one that somebody else has at the moment it ends
with 1.
"""

import http.server
import os
import signal
import sys

# http-agent.toml says the same to the probe and to `gatevisor doctor`.
DEFAULT_PORT = "8700"


def settings(path):
    """Return the NAME=value lines of a file as a dictionary."""
    found = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                name, sign, value = line.strip().partition("=")
                if sign and not name.startswith("#"):
                    found[name] = value
    except FileNotFoundError:
        pass
    return found


class Health(http.server.BaseHTTPRequestHandler):
    """Answers GET /health and nothing else."""

    def do_GET(self):  # the name is http.server's
        body = b"ok\n" if self.path == "/health" else b"not found\n"
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # the name is http.server's
        print(f"{self.address_string()} {format % args}", flush=True)


def leave(code, why):
    """Say why, and end at once."""
    print(f"leaving: {why}", flush=True)
    os._exit(code)


def main():
    profile, home = sys.argv[1], sys.argv[2]
    env = settings(os.path.join(home, ".env"))
    signal.signal(signal.SIGTERM, lambda *_: leave(0, "SIGTERM"))
    signal.signal(signal.SIGUSR1, lambda *_: leave(75, "SIGUSR1, start me again"))
    if "EXIT_CODE" in env:
        leave(int(env["EXIT_CODE"]), "EXIT_CODE is set")
    port = env.get("PORT") or DEFAULT_PORT
    if not port.isdigit() or not 0 < int(port) < 65536:
        leave(78, f"no valid PORT in {home}/.env: {port}")
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Health)
    except PermissionError:
        leave(78, f"no valid PORT in {home}/.env: this user may not listen on {port}")
    except OSError as error:
        leave(1, f"cannot listen on port {port}: {error.strerror}")
    print(f"{profile}: pid {os.getpid()} answers on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
