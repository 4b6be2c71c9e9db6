"""An object on its way to a store: small ones at once, larger ones in parts, given up cleanly when writing fails."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator

_WAITING = 2  # blocks that wait for the upload; with the parts under way they bound the memory
_FORGETTING = 5.0  # seconds that a store gets to forget an upload


class _GivenUp(Exception):
    """Ends an upload from within, so that the store forgets its parts."""


class Upload:
    """Feeds `send`, which takes an iterator of blocks and uploads them in parts, from a thread of its own."""

    def __init__(self, send: Callable[[Iterator[bytes]], object]) -> None:
        self._send = send
        self._blocks: queue.Queue[bytes | _GivenUp | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        # A daemon: a store that hangs does not hold up the end of a process that was told to stop.
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Append. Raises what the upload failed with."""
        self._feed(data)

    def finish(self) -> None:
        """Wait until the store has it under its name. Raises what the upload failed with."""
        self._feed(None)
        self._join()
        if self._error:
            raise self._error

    def abort(self) -> None:
        """Have the store forget what was uploaded; one that hangs is not waited for. Never raises."""
        deadline = time.monotonic() + _FORGETTING
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._blocks.put(_GivenUp(), timeout=0.1)
                break
            except queue.Full:
                continue
        self._join(deadline)

    def _feed(self, data: bytes | None) -> None:
        while self._thread.is_alive():
            try:
                self._blocks.put(data, timeout=0.1)
                return
            except queue.Full:
                continue
        raise self._error or RuntimeError("the upload has ended already")

    def _join(self, deadline: float = math.inf) -> None:
        # In short steps, between which Ctrl-C is heard.
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.2)

    def _work(self) -> None:
        try:
            self._send(self._given())
        except BaseException as error:  # noqa: BLE001  # told to whoever writes
            self._error = error

    def _given(self) -> Iterator[bytes]:
        while (data := self._blocks.get()) is not None:
            if isinstance(data, _GivenUp):
                raise data
            yield data
