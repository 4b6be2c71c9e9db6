"""Standard input: each line an entry, until its end."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from atalaia.collector import lines
from atalaia.collector.listeners.inbox import Stamps
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.records import no_metadata
from atalaia.collector.listeners.spool import Spool
from atalaia.store.batch import SCHEMA, canonical

_READ = 1 << 20
_LONGEST = 1 << 20  # bytes of a line; beyond, it is cut


def opener(labels: Mapping[str, str], descriptor: int = 0) -> Opener:
    """A listener to a descriptor, whose entries have these labels."""
    return lambda spool, _meters: Stdin(labels, spool, descriptor)


class Stdin:
    """One thread that reads; `ended` is set once the last line is in the spool."""

    def __init__(self, labels: Mapping[str, str], spool: Spool, descriptor: int) -> None:
        self._labels, self._spool, self._descriptor = dict(labels), spool, descriptor
        self._stamps = Stamps()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stdin", daemon=True)
        self.ended = threading.Event()

    def start(self) -> None:
        """See Listener."""
        self._thread.start()

    def stop(self) -> None:
        """See Listener."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._spool.sync()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        return [{**self._labels, "state": "ended" if self.ended.is_set() else "reading"}]

    def _run(self) -> None:
        rest = b""
        while not self._stopping.is_set():
            if not select.select([self._descriptor], [], [], 0.2)[0]:
                continue
            data = os.read(self._descriptor, _READ)
            block = rest + data
            end = block.rfind(b"\n") + 1
            block, rest = block[:end], block[end:]
            if len(rest) > _LONGEST:
                rest = rest[:_LONGEST]  # the rest of it is passed over
            if not data and rest:
                block, rest = rest + b"\n", b""
            if block and not self._keep(block):
                return
            if not data:
                self.ended.set()
                return

    def _keep(self, block: bytes) -> bool:
        texts = lines.split(lines.valid_utf8(block)[0])
        texts, _ = lines.cut_long(texts, _LONGEST)
        count = len(texts)
        labels = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array([canonical(self._labels)], pa.utf8())
        )
        columns = [pa.array(self._stamps.next(count)), labels, texts, no_metadata(count)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        # While it is full nothing is read, and whoever writes into the pipe waits.
        while not self._spool.append(table, patience=0.5):
            if self._stopping.is_set():
                return False
        return True
