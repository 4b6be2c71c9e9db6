"""What the tests of rules share: a receiver over HTTP, a clock that is set by hand, a store with a ruler."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cramjam
from logs_support import entries, opened

from atalaia.logql.parse import parse
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.rules.files import TENANT
from atalaia.rules.plan import Patience, Plan
from atalaia.rules.remote_write import write_request
from atalaia.rules.ruler import Ruler
from atalaia.rules.schedule import schedule_of
from atalaia.store.store import Store

S = 10**9
MINUTE = 60 * S
BEGIN = 1_700_000_000 * S
QUICK = Patience(0.01, 0.05, 0.2)


@dataclass
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def series(self) -> dict[tuple[tuple[str, str], ...], list[tuple[float, int]]]:
        """Samples (value, ms) of a remote write by labels."""
        request = write_request()()
        request.ParseFromString(bytes(cramjam.snappy.decompress_raw(self.body)))
        return {
            tuple((label.name, label.value) for label in one.labels): [(s.value, s.timestamp) for s in one.samples]
            for one in request.timeseries
        }


class Receiver:
    """Takes POSTs; answers `status`; while `held`, answers nothing."""

    def __init__(self) -> None:
        self.status = 200
        self.free = threading.Event()
        self.free.set()
        self.got: list[Received] = []
        self._came = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer._came:
                    outer.got.append(Received(self.path, dict(self.headers), body))
                    outer._came.notify_all()
                outer.free.wait(20)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def wait(self, enough: Callable[[list[Received]], object], seconds: float = 10.0) -> list[Received]:
        """What came, once it is enough."""
        with self._came:
            assert self._came.wait_for(lambda: enough(self.got), seconds), self.got
            return list(self.got)

    def take(self, count: int = 1) -> list[Received]:
        """The next requests, forgotten afterwards."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.got) >= count, 10), self.got
            taken, self.got = self.got[:count], self.got[count:]
            return taken

    def close(self) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


@dataclass
class World:
    """A store and its ruler; time goes on when a test says so."""

    folder: Path
    store: Store
    executor: Executor
    now: int = BEGIN
    rulers: list[Ruler] = field(default_factory=list)

    def ruler(self, plan: Plan | None = None, text: str | None = None) -> Ruler:
        """A ruler of the rules in `text`, or of what is kept already."""
        if text is not None:
            (self.folder / "rules.yaml").write_text(text)
        made = replace(plan or Plan(), files=(str(self.folder / "*.yaml"),), url="http://atalaia", patience=QUICK)
        self.rulers.append(Ruler(self.store, self.executor, made, lambda: self.now))
        return self.rulers[-1]

    def push(self, *lines: str, age: float = 1.0, server: str = "a", tenant: str = TENANT) -> None:
        """Entries that are `age` s old."""
        ts = [self.now - int(age * S)] * len(lines)
        table = entries(lines, ts, {"job": "postgres", "server": server})
        assert self.store.append(table, tenant).result(20).refused is None

    def step(self, ruler: Ruler) -> int:
        """Go on to the moment at which the next group is due, and evaluate it there."""
        self.now = min(schedule_of(view.placed).after(self.now) for view in ruler.groups([TENANT]))
        ruler.run_due()
        return self.now

    def lines(self, query: str) -> list[tuple[int, str]]:
        """Time and line of entries, oldest first; those that are on their way come first."""
        self.store.append(entries(["waited for"], labels={"job": "barrier"}), TENANT).result(20)
        tree = parse(query)
        found = self.executor.logs(tree, (TENANT,), 0, 2**62, 1000, False)  # type: ignore[arg-type]
        return [(entry.ts, entry.line) for entry in found]


@contextmanager
def world(folder: Path, store: Path | None = None) -> Iterator[World]:
    with ExitStack() as stack:
        opened_store = stack.enter_context(opened(store or folder / "store"))
        engine = Engine()
        stack.callback(engine.close)
        made = World(folder, opened_store, Executor(opened_store, engine))
        stack.callback(lambda: [ruler.stop() for ruler in made.rulers])
        yield made
