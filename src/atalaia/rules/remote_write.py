"""Samples to a Prometheus: remote write 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/)."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from atalaia import __version__
from atalaia.environment.connection import Connection
from atalaia.logql.matrix import Labels
from atalaia.rules.outbox import TIMEOUT, Outbox, post
from atalaia.rules.plan import Patience
from atalaia.runtime.http import open_client

STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""The NaN that ends a series."""
_MOST = 100_000  # samples that wait
_BATCH = 2_000
_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "WriteRequest": (("timeseries", 1, ".prometheus.TimeSeries", True),),
    "TimeSeries": (("labels", 1, ".prometheus.Label", True), ("samples", 2, ".prometheus.Sample", True)),
    "Label": (("name", 1, _FIELD.TYPE_STRING, False), ("value", 2, _FIELD.TYPE_STRING, False)),
    "Sample": (("value", 1, _FIELD.TYPE_DOUBLE, False), ("timestamp", 2, _FIELD.TYPE_INT64, False)),
}
_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": f"atalaia/{__version__}",
}
Sample = tuple[Labels, float, int]
"""A series' sorted labels, its value, its moment in ms."""


@cache
def write_request() -> Any:
    """The class of prometheus.WriteRequest."""
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                message.field.add(name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=kind)
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


def encoded(samples: Sequence[Sample]) -> bytes:
    """A snappy-compressed WriteRequest; the samples of a series stay in their order."""
    request = write_request()()
    series: dict[Labels, Any] = {}
    for labels, value, millis in samples:
        if labels not in series:
            series[labels] = request.timeseries.add()
            for name, text in labels:
                series[labels].labels.add(name=name, value=text)
        series[labels].samples.add(value=value, timestamp=millis)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def is_stale(value: float) -> bool:
    """Whether a value is the NaN that ends a series."""
    return math.isnan(value) and struct.pack("<d", value) == struct.pack("<d", STALE)


class RemoteWrite:
    """One receiver of samples."""

    def __init__(self, receiver: Connection, labels: Mapping[str, str], patience: Patience | None = None) -> None:
        """`labels`: what all series get beside their own."""
        self._url, self._labels = receiver.base, labels
        self._http = open_client(receiver, TIMEOUT)
        self._numbers = itertools.count()
        self.outbox = Outbox[Sample](self._url, self._post, _MOST, _BATCH, patience)

    def write(self, samples: Mapping[Labels, float], now: int) -> None:
        """Send samples of the moment `now` (ns) soon; returns at once."""
        items = [
            (tuple(sorted({**self._labels, **dict(labels)}.items())), value, now // 10**6)
            for labels, value in samples.items()
        ]
        self.outbox.put((next(self._numbers), item) for item in items)

    def _post(self, samples: list[Sample]) -> None:
        post(self._http, self._url, encoded(samples), _HEADERS)

    def stop(self) -> None:
        """End; what waits is sent if that takes no time."""
        self.outbox.stop()
        self._http.close()
