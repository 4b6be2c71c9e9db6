"""The backup service, as the supervisor keeps it: scheduled runs, streaming of WAL, metrics."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from atalaia.backup.keeping.facts import Reason
from atalaia.backup.keeping.gather import SERVICE, check, gather
from atalaia.backup.keeping.listening import Listening, ports_of
from atalaia.backup.keeping.metrics import exposition
from atalaia.backup.keeping.promise import judge
from atalaia.backup.keeping.working import Working
from atalaia.backup.model import logfmt
from atalaia.backup.site import Site
from atalaia.backup.wal.receiving import receive
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import Environment
from atalaia.postgres.cluster import Cluster

_log = logging.getLogger("atalaia.backup")
# The clock may be set, and the machine may sleep: it is looked at again after at most so many seconds.
_MOST = 15.0
_CHECK = 900.0  # seconds between two looks into the repository, for metrics
_FIRST_DELAY, _LAST_DELAY = 1.0, 60.0  # seconds before WAL is streamed again


class Stop:
    """Asks for the end; may be called from a signal handler."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __call__(self) -> None:
        """End."""
        self.event.set()
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def wait(self, pids: list[int], seconds: float) -> None:
        """Until it is called, one of the processes ends, or the time is over."""
        with contextlib.ExitStack() as stack:
            poller = select.poll()
            poller.register(self._wake, select.POLLIN)
            for pid in pids:
                try:
                    descriptor = os.pidfd_open(pid)
                except ProcessLookupError:
                    return
                stack.callback(os.close, descriptor)
                poller.register(descriptor, select.POLLIN)
            poller.poll(seconds * 1000)


def serve(environment: Environment, clusters: Mapping[str, Cluster], site: Site, stop: Stop) -> None:
    """Do what is scheduled until `stop`. Raises InputError when another one does it already."""
    with _alone(environment):
        ready = environment.state.run / f"{SERVICE}.ready"
        working = Working(environment, clusters)
        streams = clusters.values() if environment.settings.backups.wal.stream else ()
        listening = _listen(environment, working)
        threads = [
            threading.Thread(target=_stream, args=(cluster, site, stop), name=f"wal-{cluster.name}")
            for cluster in streams
        ]
        for thread in threads:
            thread.start()
        ready.write_text(f"{os.getpid()}\n")
        _log.info(logfmt("backup_service_started", jobs=len(working.jobs), streams=len(threads), pid=os.getpid()))
        try:
            while not stop.event.is_set():
                seconds = working.step(datetime.now(UTC))
                stop.wait([process.pid for _, process in working.running.values()], min(seconds, _MOST))
        finally:
            stop()
            working.stop()
            for thread in threads:
                thread.join()
            if listening:
                listening.stop()
            ready.unlink(missing_ok=True)
        _log.info(logfmt("backup_service_stopped"))


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    descriptor = os.open(environment.state.run / "backup-service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "a backup service of this environment runs already", "`atalaia status` shows it"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _listen(environment: Environment, working: Working) -> Listening | None:
    """Serve metrics. That there is no port for them stops no backup."""
    last: list[Reason] = []
    looked = -_CHECK

    def metrics() -> bytes:
        nonlocal last, looked
        facts = gather(environment)
        if time.monotonic() - looked >= _CHECK:
            looked = time.monotonic()
            last = check(environment, facts.backups)
        facts = gather(environment, last)
        return exposition(facts, judge(facts))

    given = environment.settings.backups.port
    try:
        listening = Listening(ports_of(given, working.port), metrics)
    except OSError as error:
        working.listened(0)
        _log.error(logfmt("metrics_unavailable", port=given or "any", problem=error.strerror or error))
        return None
    working.listened(listening.port)
    _log.info(logfmt("metrics_served", port=listening.port))
    return listening


def _stream(cluster: Cluster, site: Site, stop: Stop) -> None:
    """Stream a server's WAL until the end, whatever happens in between."""
    delay = _FIRST_DELAY
    while not stop.event.is_set():
        began = time.monotonic()
        try:
            receive(cluster, site, stop.event, lambda line: _log.info(logfmt("wal", server=cluster.name, said=line)))
        except AtalaiaError as error:
            _log.error(logfmt("wal_failed", server=cluster.name, problem=error.what, remedy=error.remedy))
        except Exception:  # noqa: BLE001 - what is wrong with one server's WAL must not end its streaming in silence
            _log.exception(logfmt("wal_failed", server=cluster.name))
        delay = _FIRST_DELAY if time.monotonic() - began > _LAST_DELAY else delay
        stop.event.wait(delay)
        delay = min(2 * delay, _LAST_DELAY)
