"""An S3 store of its own (moto's server) and a proxy before it that misbehaves as it is told.

Google's XML interface, which its clients use for objects, is S3's: the same server answers them, too.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import quote, unquote

from tests.integration.conftest import free_port

_names = count()
_BLOCK = 1 << 16
_SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request: answered with `status`, held up, or cut off on its way there or back."""

    status: int = 0
    seconds: float = 0.0
    cut_request: bool = False
    cut_answer: bool = False
    flip_answer: bool = False


@dataclass(slots=True)
class Store:
    """A bucket of its own; `endpoint` is the proxy's. `fault(method, path, number)` says what happens to a request.

    `scheme` is that of the client who asks it: s3, or gs for Google's.
    """

    endpoint: str
    direct: str
    bucket: str
    scheme: str = "s3"
    fault: Callable[[str, str, int], Fault | None] = lambda method, path, number: None
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.bucket}/atalaia"

    @property
    def options(self) -> dict[str, str | bool]:
        if self.scheme == "gs":
            key = {"client_email": "", "private_key_id": "", "private_key": "", "disable_oauth": True}
            return {"service_account_key": json.dumps(key | {"gcs_base_url": self.endpoint}), "allow_http": True}
        return {
            "endpoint": self.endpoint,
            "access_key_id": "key",
            "secret_access_key": "very secret",
            "region": "us-east-1",
        }

    def unfinished(self) -> int:
        """Uploads in parts that are neither completed nor aborted."""
        with urllib.request.urlopen(f"{self.direct}/{self.bucket}?uploads") as answer:
            return int(answer.read().count(b"<UploadId>"))


@contextmanager
def moto() -> Iterator[str]:
    """The address of an S3 store without anything in it."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/moto-api/")
                connection.getresponse().read()
                connection.close()
                break
            except OSError:
                assert process.poll() is None, "moto's server has ended"
                assert time.monotonic() < deadline, "moto's server does not answer"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def bucket(direct: str, scheme: str = "s3") -> Iterator[Store]:
    """A new bucket behind a proxy of its own."""
    name = f"backups-{next(_names)}"
    made = urllib.request.Request(f"{direct}/{name}", data=b"", method="PUT", headers={"Authorization": _SIGNED})
    urllib.request.urlopen(made).close()
    store = Store("", direct, name, scheme)
    server = _Proxy(store)
    store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, store: Store) -> None:
        self.store = store
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        store = self.server.store
        store.requests.append(f"{self.command} {self.path}")
        fault = store.fault(self.command, self.path, len(store.requests)) or Fault()
        length = int(self.headers.get("Content-Length") or 0)
        if fault.cut_request:
            self.rfile.read(length // 2)
            return self._cut()
        body = self.rfile.read(length)
        if fault.seconds:
            time.sleep(fault.seconds)
        if fault.status:
            return self._answer(fault.status, b"<Error><Code>Told</Code><Message>told to</Message></Error>", {})
        host = store.direct.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        headers = {name.lower(): value for name, value in self.headers.items()} | {"host": host}
        # Google's client escapes more than moto takes, and has a token in place of a signature.
        path, mark, query = self.path.partition("?")
        if not headers.get("authorization", "").startswith("AWS4"):
            headers["authorization"] = _SIGNED
        connection.request(self.command, quote(unquote(path)) + mark + query.removesuffix("="), body, headers)
        answer = connection.getresponse()
        found = answer.read()
        skip = ("content-length", "connection", "transfer-encoding")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in skip}
        size = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(found)
        connection.close()
        if fault.flip_answer and found:
            middle = len(found) // 2
            found = found[:middle] + bytes([found[middle] ^ 1]) + found[middle + 1 :]
        if fault.cut_answer:
            self._answer(answer.status, found[: len(found) // 2], kept, size)
            return self._cut()
        return self._answer(answer.status, found, kept, size)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _answer(self, status: int, body: bytes, headers: dict[str, str], size: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)
