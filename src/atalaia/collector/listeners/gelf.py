"""`gelf`: Graylog's messages over UDP, whole or in chunks, plain or compressed.

Format: Graylog's documentation, "GELF via UDP".
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import pyarrow as pa

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.listeners.given import Address, address, constant_labels
from atalaia.collector.listeners.inbox import Stamps
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.listeners.syslog_messages import SEVERITIES
from atalaia.collector.listeners.udp import UdpServer
from atalaia.collector.listeners.worker import Received, Worker
from atalaia.collector.meters import Meters
from atalaia.environment.yamlfile import Node, Reader

log = logging.getLogger("atalaia.collector")
_CHUNK = b"\x1e\x0f"
_MOST_CHUNKS = 128
_PATIENCE = 5.0  # seconds for all chunks of a message, as Graylog waits
_WAITING = 32 << 20  # bytes of chunks that may wait for others
_MOST = 2 << 20  # bytes of a message, unpacked
_TOLD = 20  # bad messages that are told one by one
_PREFIX = "__gelf_message_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Promtail's settings of the target."""

    listen: Address
    labels: Mapping[str, str] = field(default_factory=dict)
    use_incoming_timestamp: bool = False


def build(reader: Reader, node: Node, job: str) -> Opener | None:
    """See listener.Builder."""
    given = reader.mapping(node, f"gelf of job {job!r}", {"listen_address", "labels", "use_incoming_timestamp"})
    listen = address(reader, given.get("listen_address"), "gelf.listen_address")
    if listen is None and "listen_address" in given:
        return None
    settings = Settings(
        listen or Address("", 12201),
        constant_labels(reader, given.get("labels"), "gelf.labels"),
        reader.flag(given.get("use_incoming_timestamp"), "gelf.use_incoming_timestamp"),
    )
    return lambda spool, meters: Gelf(settings, spool, meters)


class Gelf:
    """One socket, one thread that parses. An entry's line is the message as JSON."""

    def __init__(self, settings: Settings, spool: Spool, meters: Meters) -> None:
        self._settings, self._spool, self._meters = settings, spool, meters
        self._stamps = Stamps()
        self._chunks = Chunks()
        self._told = 0
        self._worker = Worker(spool, self.entries, self._taken, lambda count: self._dropped(count, "spool_full"))
        what = f"the gelf listener of job {spool.job!r}"
        self._server = UdpServer(settings.listen, what, self._worker.inbox, self._dropped)

    @property
    def address(self) -> str:
        """HOST:PORT, once started."""
        return self._server.address

    def start(self) -> None:
        """See Listener."""
        self._server.start()
        self._worker.start()
        log.info("event=listening job=%r gelf=%s", self._spool.job, self.address)

    def stop(self) -> None:
        """See Listener."""
        self._worker.hurry()
        self._server.stop()
        self._worker.finish()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        return [{**self._settings.labels, "__address__": self.address, "state": self._server.state}]

    def _taken(self, count: int) -> None:
        self._meters.count("promtail_gelf_target_entries_total", count)

    def _dropped(self, count: int, reason: str) -> None:
        self._meters.count("promtail_listener_dropped_messages_total", count, job=self._spool.job, reason=reason)
        log.warning("event=messages_dropped job=%r count=%d reason=%s", self._spool.job, count, reason)

    def _bad(self, count: int, why: str) -> None:
        self._meters.count("promtail_gelf_target_parsing_errors_total", count)
        if self._told < _TOLD:
            self._told += 1
            log.warning("event=gelf_unread job=%r count=%d reason=%r", self._spool.job, count, why)

    def entries(self, items: Sequence[Received]) -> Entries:
        """What datagrams made whole: the messages."""
        found = []
        for peer, datagrams in items:
            for datagram in datagrams:
                try:
                    whole = self._chunks.add(peer, datagram)
                    if whole is not None:
                        found.append(message_of(whole))
                except ValueError as error:
                    self._bad(1, str(error))
        if missing := self._chunks.expire():
            self._bad(missing, "not all chunks of a message came in time")
        stamps = self._stamps.next(len(found))
        if self._settings.use_incoming_timestamp:
            for row, message in enumerate(found):
                stamps[row] = _time_of(message, int(stamps[row]))
        text = [orjson.dumps(message).decode() for message in found]
        return Entries(pa.array(text, pa.utf8()), stamps, self._labels(found))

    def _labels(self, messages: list[dict[str, object]]) -> dict[str, LabelValue]:
        sets = [labels_of(message) for message in messages]
        names = [name for name in dict.fromkeys(name for one in sets for name in one) if self._spool.reads(name)]
        found: dict[str, LabelValue] = {n: pa.array([one.get(n) for one in sets], pa.utf8()) for n in names}
        return {**found, **self._settings.labels}


class Chunks:
    """Puts chunked messages together. Used by one thread."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, bytes], tuple[float, dict[int, bytes]]] = {}
        self._lost = self._size = 0

    def add(self, peer: str, datagram: bytes) -> bytes | None:
        """A whole message, or None while chunks are missing. Raises ValueError."""
        if not datagram.startswith(_CHUNK):
            return datagram
        if len(datagram) < 12:
            raise ValueError("a chunk is shorter than its header")
        key, number, count = (peer, datagram[2:10]), datagram[10], datagram[11]
        if not 0 < count <= _MOST_CHUNKS or number >= count:
            raise ValueError(f"a chunk is number {number} of {count}")
        _, parts = self._waiting.setdefault(key, (time.monotonic(), {}))
        self._size += len(datagram) if number not in parts else 0
        parts[number] = datagram[12:]
        if len(parts) < count:
            while self._size > _WAITING:
                self._drop(next(iter(self._waiting)))
                self._lost += 1
            return None
        self._drop(key)
        return b"".join(parts[number] for number in sorted(parts))

    def _drop(self, key: tuple[str, bytes]) -> dict[int, bytes]:
        _, parts = self._waiting.pop(key)
        self._size -= sum(map(len, parts.values())) + 12 * len(parts)
        return parts

    def expire(self) -> int:
        """Give up messages that have waited too long; how many were given up since the last call."""
        before = time.monotonic() - _PATIENCE
        while self._waiting:
            key, (since, _) = next(iter(self._waiting.items()))
            if since >= before:
                break
            self._drop(key)
            self._lost += 1
        lost, self._lost = self._lost, 0
        return lost


def message_of(data: bytes) -> dict[str, object]:
    """A message, unpacked. Raises ValueError."""
    if data[:2] == b"\x1f\x8b" or (data[:1] == b"\x78" and int.from_bytes(data[:2], "big") % 31 == 0):
        unpacker = zlib.decompressobj(47)  # zlib's or gzip's header
        try:
            data = unpacker.decompress(data, _MOST)
        except zlib.error as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise ValueError(f"it is cut short, or larger than {_MOST} bytes")
    try:
        found = orjson.loads(data.rstrip(b"\0"))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("short_message"), str):
        raise ValueError("it is not an object with a short_message")
    return found


def labels_of(message: Mapping[str, object]) -> dict[str, str]:
    """`__gelf_message_*`: version, host, facility and level (by name) as Promtail's, and every other field too.

    The underscore that an additional field begins with is left out; the message itself is no label.
    """
    found = {}
    for key, value in message.items():
        if key in ("short_message", "full_message", "timestamp") or isinstance(value, (dict, list)) or value is None:
            continue
        if key == "level" and isinstance(value, int) and 0 <= value < len(SEVERITIES):
            value = SEVERITIES[value]
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        found[_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", key.removeprefix("_"))] = text
    return found


def _time_of(message: Mapping[str, object], otherwise: int) -> int:
    """The message's time in ns; a float of seconds is exact to the microsecond."""
    seconds = message.get("timestamp")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 9e9:
        return otherwise
    return round(seconds * 1e6) * 1000
