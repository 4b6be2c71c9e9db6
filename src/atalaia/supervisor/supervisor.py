"""The supervisor: a keeper a service, the control socket, and the housekeeping of log files."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from dataclasses import asdict
from typing import Any

from atalaia.collector.reading import positions
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres import logfiles
from atalaia.runtime.process import Process
from atalaia.supervisor import control
from atalaia.supervisor.control import HOLD
from atalaia.supervisor.keeper import Keeper, State
from atalaia.supervisor.layout import SUPERVISOR, Layout
from atalaia.supervisor.service import in_stopping_order, services_of

log = logging.getLogger("atalaia.supervisor")
LOG_BYTES = 256 << 20  # of a server's finished log files that are kept
_HOUSEKEEPING = 30.0  # seconds


class Supervisor:
    """Keeps an environment's services until `stop`."""

    def __init__(self, layout: Layout) -> None:
        """Take the environment's lock. Raises AtalaiaError when another supervisor has it."""
        self._layout = layout
        self._state = layout.environment.state
        self._lock = os.open(self._state.run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise AtalaiaError("a supervisor of this environment runs already", "`atalaia status` shows it") from error
        self._changes = threading.Condition()
        self._version = 0
        self._stopping = threading.Event()
        self.stopped = threading.Event()
        self.keepers = [Keeper(service, self._changed) for service in services_of(layout)]
        own = Process.of(os.getpid())
        assert own is not None
        own.save(self._state.run / f"{SUPERVISOR}.json")
        self._socket = control.listen(self._state.run)

    def run(self) -> None:
        """Keep the services until `stop` was called and all have ended."""
        log.info("event=supervising services=%d pid=%d", len(self.keepers), os.getpid())
        threading.Thread(target=self._answer_all, name="control", daemon=True).start()
        for keeper in self.keepers:
            keeper.begin()
        while not self._stopping.wait(_HOUSEKEEPING):
            self._tidy()
        self._end_all()
        self.stopped.set()
        self._changed()
        # Whoever waits for the end reads the last words before the socket goes.
        time.sleep(0.1)
        self._socket.close()
        (self._state.run / control.NAME).unlink(missing_ok=True)
        (self._state.run / f"{SUPERVISOR}.json").unlink(missing_ok=True)
        log.info("event=supervisor_stopped")
        os.close(self._lock)

    def stop(self) -> None:
        """Ask for the end of everything."""
        self._stopping.set()
        self._changed()

    def report(self) -> dict[str, Any]:
        """All services' status, as `status --json` gives it."""
        return {
            "supervisor": os.getpid(),
            "stopping": self._stopping.is_set(),
            "stopped": self.stopped.is_set(),
            "services": [asdict(keeper.status) for keeper in self.keepers],
        }

    def _changed(self) -> None:
        with self._changes:
            self._version += 1
            self._changes.notify_all()

    def _end_all(self) -> None:
        """Backups, servers, collector, store: see in_stopping_order."""
        keepers = {id(keeper.service): keeper for keeper in self.keepers}
        for group in in_stopping_order(keeper.service for keeper in self.keepers):
            for service in group:
                keepers[id(service)].end()
            for service in group:
                keepers[id(service)].join(120)

    def _tidy(self) -> None:
        """Keep every server's log files within their bound, delivered ones first."""
        try:
            known = positions.read(self._state.collector / "positions.db")
        except AtalaiaError:
            known = {}
        for cluster in self._layout.clusters.values():
            pruned = logfiles.prune(cluster.log, LOG_BYTES, lambda path: positions.delivered(known, path))
            if pruned.lost:
                log.error(
                    "event=logs_lost server=%s files=%d first=%s",
                    cluster.name,
                    len(pruned.lost),
                    pruned.lost[0].name,
                )

    # -- control

    def _answer_all(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            operation = control.request(connection)
            if operation == "status":
                control.reply(connection, self.report())
            elif operation == "retry":
                for keeper in self.keepers:
                    if keeper.status.state is State.FAILED:
                        keeper.retry()
                self._follow(connection)
            elif operation == "watch":
                self._follow(connection)
            elif operation == "stop":
                self.stop()
                self._follow(connection)
            elif operation.startswith(HOLD):
                self._hold(connection, operation.removeprefix(HOLD))

    def _hold(self, connection: socket.socket, name: str) -> None:
        """Keep a service stopped for as long as the client stays connected, however it goes."""
        for keeper in self.keepers:
            if keeper.service.name == name and keeper.hold():
                log.info("event=held name=%s", name)
                try:
                    self._follow(connection)
                finally:
                    keeper.release()
                    log.info("event=released name=%s", name)

    def _follow(self, connection: socket.socket) -> None:
        """Send the report at every change until everything has stopped or the client goes."""
        seen = -1
        while True:
            with self._changes:
                self._changes.wait_for(lambda seen=seen: self._version != seen, timeout=1.0)  # type: ignore[misc]  # mypy cannot infer a lambda's default
                seen = self._version
            if not control.reply(connection, self.report()) or self.stopped.is_set() or control.gone(connection):
                return
