"""The services that a supervisor keeps: PostgreSQL servers, the log store, the collector, scheduled backups."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atalaia.environment.connection import Connection
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import Environment
from atalaia.environment.ports import STORE
from atalaia.postgres import connect, control, init, logfiles
from atalaia.postgres.cluster import Cluster
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process
from atalaia.runtime.trust import client_context
from atalaia.supervisor.layout import BACKUP, COLLECTOR, Layout, process_file_of

_STDERR_MOST = 16 << 20  # bytes


class Service(Protocol):
    """One service. Its methods are called from one thread."""

    kind: str
    stop_steps: Sequence[tuple[int, float]]

    @property
    def name(self) -> str:
        """The service's name."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def directory(self) -> Path:
        """Where it keeps its data."""

    def prepare(self) -> None:
        """What must be done before the first start. Raises AtalaiaError when it cannot be started at all."""

    def adopt(self) -> Process | None:
        """The process that runs already, whoever started it."""

    def start(self) -> Process:
        """Start it. Raises AtalaiaError."""

    def ready(self, process: Process) -> tuple[bool, str]:
        """Whether it does its work, and its version or what it lacks.

        Raises AtalaiaError when it never will as things are.
        """

    def last_words(self) -> str:
        """What it said before it ended."""


@dataclass(slots=True)
class ServerService:
    """A PostgreSQL server."""

    cluster: Cluster
    kind: str = "postgresql"
    stop_steps: Sequence[tuple[int, float]] = control.STOP_STEPS

    @property
    def name(self) -> str:
        """The server's name."""
        return self.cluster.name

    @property
    def address(self) -> str:
        """Every address that it listens on."""
        hosts = (f"[{h}]" if ":" in h else h for h in self.cluster.listen)
        return ", ".join(f"{host}:{self.cluster.port}" for host in hosts)

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self.cluster.data

    def prepare(self) -> None:
        """Initialise the data directory once."""
        if init.inspect(self.cluster).condition is init.Condition.ABSENT:
            init.initialise(self.cluster)
        init.require(self.cluster, init.Condition.READY)

    def adopt(self) -> Process | None:
        """The postmaster of the data directory."""
        return control.postmaster(self.cluster)

    def start(self) -> Process:
        """Start the postmaster."""
        logfiles.trim_stderr(self.cluster.stderr, _STDERR_MOST, lambda _: False)
        return control.start(self.cluster)

    def ready(self, process: Process) -> tuple[bool, str]:
        """A real connection over TCP, once the postmaster takes them: an earlier try would be a FATAL in its log."""
        if not control.accepting(self.cluster):
            return False, "starting"
        seen = connect.ready(self.cluster)
        if seen.answer is connect.Answer.REFUSED and (remedy := control.lasting_refusal(self.cluster, seen.reason)):
            raise InputError(f"{self.name} runs but refuses Atalaia: {seen.reason}", remedy)
        return seen.answer is connect.Answer.READY, seen.version or seen.reason

    def last_words(self) -> str:
        """The end of its stderr."""
        return control.last_words(self.cluster)


@dataclass(slots=True)
class OwnService:
    """The store, the collector or the backup service: this program again, in a process of its own."""

    name: str
    kind: str
    address: str
    directory: Path
    arguments: tuple[str, ...]
    environment: Environment
    http: Connection | None = None
    stop_steps: Sequence[tuple[int, float]] = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))

    @property
    def _process_file(self) -> Path:
        return self.environment.state.run / f"{self.name}.json"

    @property
    def ready_file(self) -> Path:
        """A service without HTTP writes its PID here once it works."""
        return self.environment.state.run / f"{self.name}.ready"

    @property
    def _output(self) -> Path:
        return self.environment.state.own_logs / f"{self.name}.err"

    def prepare(self) -> None:
        """Nothing is needed."""

    def adopt(self) -> Process | None:
        """The process that was written down, if it still runs."""
        return process_file_of(self.environment, self.name)

    def start(self) -> Process:
        """Start it, and write its process down for whoever comes after us."""
        self._output.unlink(missing_ok=True)
        process = processes.start(
            [sys.executable, "-m", "atalaia", *self.arguments],
            output=self._output,
            folder=self.environment.folder,
        )
        process.save(self._process_file)
        return process

    def ready(self, process: Process) -> tuple[bool, str]:
        """GET /ready, or the ready file."""
        from atalaia import __version__

        if self.http is None:
            try:
                return self.ready_file.read_text().strip() == str(process.pid), __version__
            except OSError:
                return False, "not working yet"
        try:
            connection = _connect(self.http)
        except AtalaiaError as error:
            return False, str(error)
        try:
            connection.request("GET", "/ready")
            status = connection.getresponse().status
            # 503: it runs and answers questions, but takes no pushes for now; another start would not help.
            return (True, __version__) if status in (200, 503) else (False, f"/ready answers {status}")
        except (OSError, http.client.HTTPException) as error:
            return False, str(error)
        finally:
            connection.close()

    def last_words(self) -> str:
        """The end of its output."""
        try:
            return self._output.read_text(errors="replace").strip()[-2000:]
        except OSError:
            return ""


def _connect(to: Connection) -> http.client.HTTPConnection:
    if to.base.startswith("https:"):
        return http.client.HTTPSConnection(to.host, timeout=2, context=client_context(to))
    return http.client.HTTPConnection(to.host, timeout=2)


def services_of(layout: Layout) -> list[Service]:
    """The services of an environment in their order: servers, store, collector, backups when any are scheduled."""
    environment = layout.environment
    file = str(environment.file)
    found: list[Service] = [ServerService(cluster) for cluster in layout.clusters.values()]
    if layout.store_port is not None:
        connection = layout.connection
        arguments = ("serve", "--environment", file)
        found.append(
            OwnService(
                STORE,
                "log store",
                connection.host,
                environment.store_directory,
                arguments,
                environment,
                connection,
            )
        )
    # The collector waits for the store by itself, so that both load at the same time.
    found.append(
        OwnService(
            COLLECTOR,
            "collector",
            "-",
            environment.state.collector,
            ("collect", "--environment", file),
            environment,
        )
    )
    if environment.settings.backups.service:
        found.append(
            OwnService(
                BACKUP,
                "backups",
                "-",
                environment.state.backups,
                ("backup", "serve", "--environment", file),
                environment,
            )
        )
    return found


def in_stopping_order(services: Iterable[Service]) -> list[list[Service]]:
    """What is stopped together, in order.

    Backups under way need the servers. Those next, so that their last words are collected; the store last.
    """
    ranks = {BACKUP: 0, COLLECTOR: 2, STORE: 3}
    groups: dict[int, list[Service]] = {}
    for service in services:
        groups.setdefault(1 if isinstance(service, ServerService) else ranks[service.name], []).append(service)
    return [groups[rank] for rank in sorted(groups)]
