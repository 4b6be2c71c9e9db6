"""`docker_sd_configs`: the logs of a Docker host's containers, each line once, from their beginning."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atalaia.collector.listeners.docker_engine import Engine, EngineError
from atalaia.collector.listeners.docker_frames import FrameError, Line, Multiplexed, Terminal
from atalaia.collector.listeners.docker_labels import STREAM, Labels, label_sets
from atalaia.collector.listeners.docker_place import Place, since, source
from atalaia.collector.listeners.docker_settings import Settings, settings_of
from atalaia.collector.listeners.inbox import Stamps
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.records import PLACED, no_metadata
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template.gotime import Layout
from atalaia.store.batch import canonical

log = logging.getLogger("atalaia.collector")
_MOMENT = Layout("2006-01-02T15:04:05.999999999Z07:00")
_GATHER = 0.02  # seconds that lines are gathered before they are spooled
_MOST = 4 << 20  # bytes of gathered lines, about
_SOON = 1.0  # seconds until the next look at the containers, after one has ended


@dataclass(frozen=True, slots=True)
class _Pending:
    """A line that is about to be spooled."""

    id: str
    labels: Labels
    line: Line
    place: Place


def build(reader: Reader, node: Node, job: str) -> Opener | None:
    """See listener.Builder."""
    found = [settings_of(reader, one, job) for one in reader.sequence(node, "docker_sd_configs")]
    settings = [one for one in found if one is not None]
    return (lambda spool, meters: Docker(settings, spool, meters)) if settings else None


class Docker:
    """An event loop in a thread; a task for each host and for each container that is followed."""

    def __init__(self, settings: Sequence[Settings], spool: Spool, meters: Meters) -> None:
        self._settings, self._spool, self._meters = settings, spool, meters
        self._stamps = Stamps()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"docker {spool.job}", daemon=True)
        self._main: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._following: dict[str, tuple[asyncio.Task[None], Labels]] = {}
        self._pending: list[_Pending] = []
        self._size = 0  # bytes of what is pending
        self._arrived = asyncio.Event()
        self._flushing = asyncio.Lock()

    def start(self) -> None:
        """See Listener. A host that cannot be reached yet is tried again and again."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """See Listener."""
        self._stopping.set()
        if self._thread.is_alive():
            assert self._main is not None
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join()
            self._loop.close()
        self._spool.sync()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        return [{**labels, "state": "following"} for _, labels in list(self._following.values())]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._all())
        self._started.set()
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            return
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush_always())
            for settings in self._settings:
                group.create_task(self._watch(settings, group))

    async def _watch(self, settings: Settings, group: asyncio.TaskGroup) -> None:
        """Look at the containers again and again, and follow those that relabelling wants."""
        engine = Engine(settings.host)
        ended = asyncio.Event()
        finished: set[str] = set()  # stopped containers whose log was read to its end
        away = False
        try:
            while True:
                try:
                    await self._refresh(settings, engine, group, ended, finished)
                    if away:
                        log.info("event=docker_back host=%s", settings.host)
                    away = False
                except EngineError as error:
                    if not away:
                        log.warning("event=docker_unreachable host=%s reason=%r", settings.host, str(error))
                    away = True
                await _either(ended, _SOON * 2 if away else settings.refresh)
                if ended.is_set():
                    ended.clear()
                    await asyncio.sleep(min(_SOON, settings.refresh))
        finally:
            await engine.close()

    async def _refresh(
        self,
        settings: Settings,
        engine: Engine,
        group: asyncio.TaskGroup,
        ended: asyncio.Event,
        finished: set[str],
    ) -> None:
        containers = await engine.containers(settings.filters)
        networks = await engine.networks()
        states = {container["Id"]: container.get("State") for container in containers}
        every = label_sets(
            containers, networks, settings.port, settings.host_networking_host, settings.match_first_network
        )
        finished &= {id_ for id_, state in states.items() if state != "running"}
        for id_, sets in every:
            running = states[id_] == "running"
            known = any(source(id_, stream) in self._spool.cursors for stream in ("stdout", "stderr"))
            # A container that stopped while nobody looked may have more lines than were taken.
            if id_ in self._following or not (running or (known and id_ not in finished)):
                continue
            labels = next((one for one in sets if self._wanted(one)), None)
            if labels is not None:
                work = self._follow(engine, id_, labels, ended, finished)
                self._following[id_] = (group.create_task(self._guarded(id_, work, ended)), labels)
        if not settings.filters and len(self._settings) == 1:
            self._forget(set(states))

    def _wanted(self, labels: Labels) -> bool:
        return any(self._spool.wants({**labels, STREAM: stream}) for stream in ("stdout", "stderr"))

    def _forget(self, there: set[str]) -> None:
        """Containers that were removed will not come again."""
        for name in list(self._spool.cursors):
            if name.partition("/")[0] not in there:
                self._spool.forget(name)

    async def _guarded(self, id_: str, work: Coroutine[Any, Any, None], ended: asyncio.Event) -> None:
        try:
            await work
        except (EngineError, FrameError) as error:
            log.warning("event=docker_log_broken container=%s reason=%r", id_[:12], str(error))
        finally:
            del self._following[id_]
            ended.set()

    async def _follow(self, engine: Engine, id_: str, labels: Labels, ended: asyncio.Event, finished: set[str]) -> None:
        """One container's log until it stops."""
        frames: Terminal | Multiplexed = Terminal() if await engine.has_terminal(id_) else Multiplexed()
        places = {
            stream: Place.read(self._spool.cursors.get(source(id_, stream))) for stream in ("stdout", "stderr", "stdin")
        }
        log.info("event=docker_following container=%s name=%s", id_[:12], labels.get("__meta_docker_container_name"))
        try:
            async for data in engine.log(id_, since(self._spool.cursors, id_)):
                self._add(_Pending(id_, labels, line, places[line.stream]) for line in frames.feed(data))
                if self._size > _MOST:
                    await self._flush()
            self._add(_Pending(id_, labels, line, places[line.stream]) for line in frames.end())
            finished.add(id_)
        finally:
            # Whoever reads the log next goes on behind the last line of it that was spooled. At a stop nobody does.
            if not self._stopping.is_set():
                await self._flush()

    def _add(self, lines: Iterable[_Pending]) -> None:
        for one in lines:
            self._pending.append(one)
            self._size += len(one.line.raw) + 100
            self._arrived.set()

    async def _flush_always(self) -> None:
        """Lines of all containers are spooled together: one by one they would cost a hundred times as much."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_GATHER)
            await self._flush()

    async def _flush(self) -> None:
        async with self._flushing:
            taken, self._pending, self._size = self._pending, [], 0
            self._arrived.clear()
            if taken:
                await self._keep(taken)

    async def _keep(self, taken: list[_Pending]) -> None:
        moments = _MOMENT.parse(pa.array([one.line.stamp.decode() for one in taken], pa.utf8()))
        arrived = self._stamps.next(len(taken))
        kept, cursors, ts = [], [], []
        for row, (one, moment) in enumerate(zip(taken, moments.to_pylist(), strict=True)):
            if moment is None:
                self._meters.count("promtail_docker_target_parsing_errors_total")
            if moment is None or one.place.passes(moment):
                kept.append(one)
                cursors.append(one.place.cursor())
                ts.append(int(arrived[row]) if moment is None else moment)
        if not kept:
            return
        sets = {(one.id, one.line.stream): one.labels for one in kept}
        texts = {key: self._set(labels, key[1]) for key, labels in sets.items()}
        table = pa.Table.from_arrays(
            [
                pa.array(ts, pa.int64()),
                pa.array([texts[one.id, one.line.stream] for one in kept], pa.utf8()).dictionary_encode(),
                pa.array([one.line.raw.decode("utf-8", "replace") for one in kept], pa.utf8()),
                no_metadata(len(kept)),
                pa.array([source(one.id, one.line.stream) for one in kept], pa.utf8()),
                pa.array(cursors, pa.utf8()),
            ],
            schema=PLACED,
        )
        if not self._spool.append(table):
            # Nothing is read further meanwhile, and Docker keeps what its containers write.
            await self._loop.run_in_executor(None, self._wait, table)
        self._meters.count("promtail_docker_target_entries_total", len(kept))

    def _wait(self, table: pa.Table) -> None:
        while not self._spool.append(table, patience=0.5):
            if self._stopping.is_set():
                raise EngineError("stopped while the spool was full")

    def _set(self, labels: Labels, stream: str) -> str:
        whole = {**labels, STREAM: stream}
        return canonical({name: value for name, value in whole.items() if self._spool.reads(name)})


async def _either(event: asyncio.Event, patience: float) -> None:
    """Until the event is set, or so many seconds have passed."""
    try:
        async with asyncio.timeout(patience):
            await event.wait()
    except TimeoutError:
        return
