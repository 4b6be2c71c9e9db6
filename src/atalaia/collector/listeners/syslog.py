"""`syslog`: messages over TCP, TLS or UDP, as Promtail's target of that name takes them."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.listeners.given import Address, address, constant_labels, number, seconds, server_tls
from atalaia.collector.listeners.inbox import Stamps
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.listeners.syslog_messages import FORMATS, NAMES, Messages, parameters
from atalaia.collector.listeners.tcp import TcpServer
from atalaia.collector.listeners.udp import UdpServer
from atalaia.collector.listeners.worker import Received, Worker
from atalaia.collector.meters import Meters
from atalaia.environment.yamlfile import Node, Reader
from atalaia.runtime.tls import TlsFiles

log = logging.getLogger("atalaia.collector")
_TOLD = 20  # bad messages of a listener that are told one by one; later ones are only counted
_KNOWN = {"listen_address", "listen_protocol", "idle_timeout", "label_structured_data", "labels", "tls_config"}
_KNOWN |= {"use_incoming_timestamp", "use_rfc5424_message", "max_message_length", "syslog_format"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Promtail's settings of the target. Sizes in bytes, times in seconds."""

    listen: Address
    protocol: str = "tcp"
    idle_timeout: float = 120.0
    label_structured_data: bool = False
    labels: Mapping[str, str] | None = None
    use_incoming_timestamp: bool = False
    use_rfc5424_message: bool = False
    max_message_length: int = 8192
    format: str = "rfc5424"
    tls: TlsFiles | None = None


def build(reader: Reader, node: Node, job: str) -> Opener | None:
    """See listener.Builder."""
    given = reader.mapping(node, "syslog", _KNOWN)
    listen = address(reader, given.get("listen_address"), "syslog.listen_address")
    if listen is None:
        if "listen_address" not in given:
            reader.problem(node, f"job {job!r}: syslog has no listen_address", "add listen_address: 0.0.0.0:1514")
        return None
    protocol = reader.text(given.get("listen_protocol"), "syslog.listen_protocol") or "tcp"
    if protocol not in ("tcp", "udp"):
        reader.problem(given["listen_protocol"], f"syslog.listen_protocol is {protocol!r}", "write tcp or udp")
    tls = server_tls(reader, given.get("tls_config"), "syslog.tls_config")
    if tls is not None and protocol == "udp":
        reader.problem(given["tls_config"], "syslog over UDP has no TLS", "use listen_protocol: tcp")
    settings = Settings(
        listen,
        protocol,
        seconds(reader, given.get("idle_timeout"), "syslog.idle_timeout", 120.0) or 120.0,
        reader.flag(given.get("label_structured_data"), "syslog.label_structured_data"),
        constant_labels(reader, given.get("labels"), "syslog.labels"),
        reader.flag(given.get("use_incoming_timestamp"), "syslog.use_incoming_timestamp"),
        reader.flag(given.get("use_rfc5424_message"), "syslog.use_rfc5424_message"),
        number(reader, given.get("max_message_length"), "syslog.max_message_length", 8192, 0) or 8192,
        _format(reader, given.get("syslog_format")),
        tls,
    )
    return lambda spool, meters: Syslog(settings, spool, meters)


def _format(reader: Reader, node: Node | None) -> str:
    """`rfc3164`, or as Promtail's documentation writes it, `type: rfc3164`."""
    if node is not None and isinstance(node.value, dict):
        node = reader.mapping(node, "syslog.syslog_format", {"type"}).get("type")
    name = (reader.text(node, "syslog.syslog_format") or "rfc5424").lower()
    if name not in FORMATS and node is not None:
        reader.problem(node, f"syslog.syslog_format is {name!r}", f"write one of {', '.join(FORMATS)}")
    return name


class Syslog:
    """One socket, one thread that parses."""

    def __init__(self, settings: Settings, spool: Spool, meters: Meters) -> None:
        self._settings, self._spool, self._meters = settings, spool, meters
        self._stamps = Stamps()
        self._told = 0
        self._worker = Worker(spool, self.entries, self._taken, lambda count: self._dropped(count, "spool_full"))
        inbox = self._worker.inbox
        what = f"the syslog of job {spool.job!r}"
        if settings.protocol == "udp":
            self._server: TcpServer | UdpServer = UdpServer(settings.listen, what, inbox, self._dropped, b"\r\n\0")
        else:
            self._server = TcpServer(
                settings.listen, what, inbox, settings.idle_timeout, settings.max_message_length, settings.tls
            )

    @property
    def address(self) -> str:
        """HOST:PORT, once started."""
        return self._server.address

    def start(self) -> None:
        """See Listener."""
        self._server.start()
        self._worker.start()
        log.info("event=listening job=%r syslog=%s/%s", self._spool.job, self._settings.protocol, self.address)

    def stop(self) -> None:
        """See Listener."""
        self._worker.hurry()
        self._server.stop()
        self._worker.finish()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        return [{**(self._settings.labels or {}), "__address__": self.address, "state": self._server.state}]

    def _taken(self, count: int) -> None:
        self._meters.count("promtail_syslog_target_entries_total", count)

    def _dropped(self, count: int, reason: str) -> None:
        self._meters.count("promtail_listener_dropped_messages_total", count, job=self._spool.job, reason=reason)
        log.warning("event=messages_dropped job=%r count=%d reason=%s", self._spool.job, count, reason)

    def entries(self, items: Sequence[Received]) -> Entries:
        """The messages that can be parsed."""
        texts = _utf8([message for _, messages in items for message in messages])
        stamps = self._stamps.next(len(texts))
        settings = self._settings
        found = FORMATS[settings.format](texts, int(stamps[0]) if len(stamps) else 0)
        self._tell_bad(texts, found)
        line = texts if settings.use_rfc5424_message else found.message
        if settings.use_incoming_timestamp:
            stamps = pc.coalesce(found.ts, pa.array(stamps)).to_numpy(zero_copy_only=False)
        empty = pc.equal(pc.fill_null(found.message, ""), "").to_numpy(zero_copy_only=False) & found.good
        if empty.any():
            self._meters.count("promtail_syslog_empty_messages_total", int(empty.sum()))
        entries = Entries(pc.fill_null(line, ""), stamps, self._labels(items, found))
        return entries.filter(found.good & ~empty)

    def _tell_bad(self, texts: pa.Array, found: Messages) -> None:
        bad = np.flatnonzero(~found.good)
        if not len(bad):
            return
        self._meters.count("promtail_syslog_target_parsing_errors_total", len(bad))
        for row in bad[: max(0, _TOLD - self._told)]:
            self._told += 1
            text = texts[int(row)].as_py()[:200]
            log.warning(
                "event=syslog_unparsed job=%r format=%s message=%r", self._spool.job, self._settings.format, text
            )

    def _labels(self, items: Sequence[Received], found: Messages) -> dict[str, LabelValue]:
        """The labels that make a difference (see Spool.reads); what is set by hand stays as it is."""
        labels: dict[str, LabelValue] = {}
        for name in NAMES:
            if self._spool.reads(f"__syslog_message_{name}"):
                labels[f"__syslog_message_{name}"] = found.fields[name]
        for name, make in (("ip_address", str), ("hostname", _host_of)):
            if self._spool.reads(f"__syslog_connection_{name}"):
                peers = pa.array([make(peer) for peer, _ in items], pa.utf8())
                rows = np.repeat(np.arange(len(items)), [len(messages) for _, messages in items])
                labels[f"__syslog_connection_{name}"] = peers.take(pa.array(rows))
        if self._settings.label_structured_data:
            labels |= self._structured(found.sd)
        return {**labels, **(self._settings.labels or {})}

    def _structured(self, texts: pa.Array) -> dict[str, LabelValue]:
        distinct = texts.dictionary_encode()
        sets = [parameters(text) if text and text != "-" else {} for text in distinct.dictionary.to_pylist()]
        names = dict.fromkeys(name for one in sets for name in one)
        return {
            f"__syslog_message_sd_{name}": pa.array([one.get(name) for one in sets], pa.utf8()).take(distinct.indices)
            for name in names
            if self._spool.reads(f"__syslog_message_sd_{name}")
        }


def _utf8(messages: list[bytes]) -> pa.Array:
    """utf8[N]; invalid bytes become U+FFFD."""
    try:
        return pa.array(messages, pa.binary()).cast(pa.utf8())
    except pa.ArrowInvalid:
        return pa.array([message.decode("utf-8", "replace") for message in messages], pa.utf8())


@functools.lru_cache(maxsize=1000)
def _host_of(ip: str) -> str:
    """The names that the address resolves to, joined by commas; empty for none."""
    try:
        name, aliases, _ = socket.gethostbyaddr(ip)
    except OSError:
        return ""
    return ",".join(dict.fromkeys([name, *aliases]))
