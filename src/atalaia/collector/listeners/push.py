"""`loki_push_api`: Loki's push API, so that other collectors and clients can send through this one."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector import lines
from atalaia.collector.listeners.given import Address, bind, constant_labels, number, own_address, seconds, server_tls
from atalaia.collector.listeners.inbox import Stamps
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.records import no_metadata
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.listeners.web import Full, Web
from atalaia.collector.meters import Meters
from atalaia.environment.yamlfile import Node, Reader
from atalaia.runtime.tls import TlsFiles
from atalaia.store.batch import SCHEMA, canonical
from atalaia.wire.push import read_push, unpack

log = logging.getLogger("atalaia.collector")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Settings of Promtail's server that change nothing here: it answers HTTP alone, and its own metrics are elsewhere.
_UNUSED = {"grpc_listen_address", "grpc_listen_port", "register_instrumentation", "log_level", "log_format"}
_UNUSED |= {"graceful_shutdown_timeout", "grpc_server_max_recv_msg_size", "grpc_server_max_send_msg_size"}
_UNUSED |= {"grpc_server_max_concurrent_streams", "http_server_write_timeout", "http_server_idle_timeout"}


@dataclass(frozen=True, slots=True)
class Settings:
    """`read_timeout` in seconds: how long a body may take to arrive."""

    listen: Address
    labels: Mapping[str, str] = field(default_factory=dict)
    use_incoming_timestamp: bool = False
    tls: TlsFiles | None = None
    read_timeout: float = 30.0


def build(reader: Reader, node: Node, job: str) -> Opener | None:
    """See listener.Builder."""
    given = reader.mapping(node, "loki_push_api", {"server", "labels", "use_incoming_timestamp"})
    known = {"http_listen_address", "http_listen_port", "http_tls_config", "http_server_read_timeout"}
    server = reader.mapping(given.get("server"), "loki_push_api.server", known | _UNUSED)
    for name in sorted(server.keys() & _UNUSED):
        reader.remark(server[name], f"job {job!r}: {name} changes nothing here", "it may be left out")
    port = number(reader, server.get("http_listen_port"), "http_listen_port", 80, 0)
    if port > 65535:
        reader.problem(server["http_listen_port"], f"http_listen_port {port} is no port", "write one up to 65535")
        return None
    settings = Settings(
        Address(reader.text(server.get("http_listen_address"), "http_listen_address") or "", port),
        constant_labels(reader, given.get("labels"), "loki_push_api.labels"),
        reader.flag(given.get("use_incoming_timestamp"), "loki_push_api.use_incoming_timestamp"),
        server_tls(reader, server.get("http_tls_config"), "http_tls_config", "client_ca_file"),
        seconds(reader, server.get("http_server_read_timeout"), "http_server_read_timeout", 30.0) or 30.0,
    )
    return lambda spool, meters: Push(settings, spool, meters)


class Push:
    """An HTTP server in a thread of its own. What is answered 204 is on disk."""

    def __init__(self, settings: Settings, spool: Spool, meters: Meters) -> None:
        self._settings, self._spool, self._meters = settings, spool, meters
        self._stamps = Stamps()
        self._web = Web(self, f"push {spool.job}", settings.tls, settings.read_timeout)
        self.address = str(settings.listen)

    def start(self) -> None:
        """See Listener."""
        listening = bind(self._settings.listen, socket.SOCK_STREAM, f"the push API of job {self._spool.job!r}")
        self.address = own_address(listening)
        self._web.start(listening)
        log.info("event=listening job=%r push=%s", self._spool.job, self.address)

    def stop(self) -> None:
        """See Listener."""
        self._web.stop()
        self._spool.sync()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        return [{**self._settings.labels, "__address__": self.address, "state": "listening"}]

    def take_push(self, body: bytes, content_type: str, encoding: str) -> str | None:
        """Keep a push durably. A text: what was refused of it. Raises BatchError, and Full."""
        table = read_push(body, content_type, encoding).table.combine_chunks().unify_dictionaries()
        if not len(table):
            return None
        column = table.column("labels").chunk(0)
        sets = [_labels(text) for text in column.dictionary.to_pylist()]
        bad = np.array([one is None for one in sets], bool)[column.indices.to_numpy()]
        texts = pa.array([canonical({**(one or {}), **self._settings.labels}) for one in sets], pa.utf8())
        labels = pa.DictionaryArray.from_arrays(column.indices, texts)
        table = table.set_column(table.schema.get_field_index("labels"), "labels", labels)
        if not self._settings.use_incoming_timestamp:
            table = table.set_column(0, "ts", pa.array(self._stamps.next(len(table))))
        self._keep(table.filter(pa.array(~bad)) if bad.any() else table)
        if not bad.any():
            return None
        first = column[int(bad.argmax())].as_py()
        return f"{int(bad.sum())} entries refused: {first[:200]} is not a label set"

    def take_raw(self, body: bytes, encoding: str) -> None:
        """Keep each line of a plain text. Raises Full."""
        block, _ = lines.valid_utf8(unpack(body, encoding))
        texts = lines.split(block if block.endswith(b"\n") else block + b"\n")
        texts = pc.utf8_rtrim(texts, "\r")
        texts = texts.filter(pc.not_equal(texts, ""))
        count = len(texts)
        if not count:
            return
        indices = pa.array(np.zeros(count, np.int32))
        labels = pa.DictionaryArray.from_arrays(indices, pa.array([canonical(self._settings.labels)], pa.utf8()))
        columns = [pa.array(self._stamps.next(count)), labels, texts, no_metadata(count)]
        self._keep(pa.Table.from_arrays(columns, schema=SCHEMA))

    def _keep(self, table: pa.Table) -> None:
        if not self._spool.append(table, sync=True):
            raise Full
        self._meters.count("promtail_push_target_entries_total", len(table))


def _labels(text: str) -> dict[str, str] | None:
    """A canonical label set; None when a name cannot be one."""
    found: dict[str, str] = orjson.loads(text)
    return found if all(_NAME.fullmatch(name) for name in found) else None
