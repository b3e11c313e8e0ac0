#!/usr/bin/env python3
"""A model that answers when it may, for tests: as much of an OpenAI-compatible server as agents ask
for.

Usage: model.py PORT DIRECTORY

No question is answered while there is a file DIRECTORY/hold. Each question is a line of
DIRECTORY/asked as soon as it comes: what the user said. The answer repeats the last of it, so that
each turn has an answer of its own.
"""

import http.server
import json
import pathlib
import sys
import threading

PORT, DIRECTORY = int(sys.argv[1]), pathlib.Path(sys.argv[2])
NEVER, WRITING = threading.Event(), threading.Lock()
LOOK_S = 0.02


def text_of(content):
    """Returns the text of a message, whose content may be a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def answer_of(request):
    """Returns an answer as bytes, and of which kind it is."""
    said = [text_of(message.get("content")) for message in request.get("messages", []) if message.get("role") == "user"]
    last = said[-1] if said else ""
    with WRITING, open(DIRECTORY / "asked", "a") as asked:
        asked.write(" ".join(said).replace("\n", " ") + "\n")
    while (DIRECTORY / "hold").exists():
        NEVER.wait(LOOK_S)
    words = "you said: " + last
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "x", "created": 0, "model": "slow"}
    if not request.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
        return json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}), "application/json"
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": words}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    lines = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]), "text/event-stream"


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, text, kind):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        models = [{"id": "slow", "object": "model", "context_length": 200000}]
        self.reply(json.dumps({"object": "list", "data": models}), "application/json")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        try:
            self.reply(*answer_of(request))
        except (BrokenPipeError, ConnectionResetError):
            pass


class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", PORT), Model).serve_forever()
