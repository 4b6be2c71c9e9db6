"""A server that takes Loki's pushes and keeps what it acknowledges on disk, with faults by chance.

    python loki_receiver.py DIRECTORY PORT '{"seed": 1, "faults": 0.3, "json": false}'

A push is a file below DIRECTORY, its headers in the first line; it is there before it is acknowledged. `faults`: the
share of requests that go wrong in one of the ways below. `json`: protobuf is answered 415.
"""

from __future__ import annotations

import http.server
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

FAULTS = ("500", "503", "429", "close before", "close after", "die before", "die after", "cut")


def main(directory: str, port: str, options: str) -> None:
    folder, given = Path(directory), json.loads(options)
    folder.mkdir(exist_ok=True)
    # Another one in each life, or one that dies of its first request would die for ever.
    rng, lock = random.Random(f"{given['seed']} {os.getpid()}"), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.path != "/loki/api/v1/push":
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(404)
                return
            with lock:
                fault = rng.choice(FAULTS) if rng.random() < given["faults"] else ""
            length = int(self.headers["Content-Length"])
            if fault == "cut":
                self.rfile.read(length // 2)
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(length)
            if len(body) < length:  # the client was killed
                self.close_connection = True
                return
            if fault == "close before":
                self.close_connection = True
                self.connection.close()
            elif fault.isdigit():
                self.answer(int(fault))
            elif given["json"] and "json" not in self.headers["Content-Type"]:
                self.answer(415)
            else:
                if fault == "die before":
                    os.kill(os.getpid(), signal.SIGKILL)
                self.keep(body)
                if fault == "die after":
                    os.kill(os.getpid(), signal.SIGKILL)
                if fault == "close after":
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.answer(204)

        def keep(self, body: bytes) -> None:
            head = {"kind": self.headers["Content-Type"], "tenant": self.headers.get("X-Scope-OrgID", "")}
            with lock:
                number = len(os.listdir(folder))
                temporary = folder.with_name(f"{folder.name}.partial")
                temporary.write_bytes(json.dumps(head).encode() + b"\n" + body)
                temporary.rename(folder / f"{number:06}")

        def answer(self, status: int) -> None:
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A connection that was cut is meant."""

    server = Server(("127.0.0.1", int(port)), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
