"""What waits for a receiver: a bounded queue with a thread of its own, so that nobody waits for a slow or dead one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

import httpx

from atalaia.environment.errors import InputError
from atalaia.rules.plan import Patience

log = logging.getLogger("atalaia.rules")
Item = TypeVar("Item")
TIMEOUT = httpx.Timeout(10.0)  # s that a receiver may take to answer


class Unreachable(Exception):
    """The receiver does not take anything now; the same is to be sent again."""


class Refused(Exception):
    """The receiver will never take this."""


def post(client: httpx.Client, url: str, body: bytes, headers: dict[str, str]) -> None:
    """Deliver. Raises Unreachable, Refused."""
    try:
        answer = client.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    except InputError as error:  # a secret that cannot be read
        raise Unreachable(error.what) from error
    if answer.is_success:
        return
    said = f"{answer.status_code} {answer.text[:300].strip()}"
    if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
        raise Refused(said)
    raise Unreachable(said)


class Outbox(Generic[Item]):
    """Items by key, oldest first; a newer item of a key replaces the older one. Beyond `most` the oldest are lost."""

    def __init__(
        self, name: str, send: Callable[[list[Item]], None], most: int, batch: int, patience: Patience | None = None
    ) -> None:
        """`send` delivers up to `batch` items. Raises Unreachable, Refused."""
        self.name = name
        self.lost = 0
        """How many items were dropped: beyond the bound, or refused."""
        self.error: str | None = None
        """Why the receiver takes nothing, while it does not."""
        self._send, self._most, self._batch = send, most, batch
        self._patience = patience or Patience()
        self._guard = threading.Condition()
        self._waiting: dict[Hashable, Item] = {}
        self._until: float | None = None  # once we are to end: until when
        self._thread = threading.Thread(target=self._run, name=f"outbox {name}", daemon=True)
        self._thread.start()

    def put(self, items: Iterable[tuple[Hashable, Item]]) -> None:
        """Leave items; returns at once."""
        with self._guard:
            for key, item in items:
                self._waiting[key] = item
            beyond = list(islice(self._waiting, max(len(self._waiting) - self._most, 0)))
            for key in beyond:
                del self._waiting[key]
            self.lost += len(beyond)
            self._guard.notify_all()
        if beyond:
            log.warning("event=outbox_full receiver=%s lost=%d", self.name, len(beyond))

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def begin_to_stop(self) -> None:
        """Take what waits to the receiver, for a short while."""
        with self._guard:
            self._until = time.monotonic() + self._patience.stop
            self._guard.notify_all()

    def stop(self) -> None:
        """End; what waits still is lost."""
        if self._until is None:
            self.begin_to_stop()
        self._thread.join(self._patience.stop + 0.5)

    def _run(self) -> None:
        wait = self._patience.least
        while (batch := self._next()) is not None:
            try:
                self._send(list(batch.values()))
                self.error = None
            except Refused as error:
                log.error("event=receiver_refused receiver=%s items=%d reason=%r", self.name, len(batch), str(error))
                self.lost += len(batch)
                self.error = None
            except Unreachable as error:
                if self.error is None:
                    log.warning("event=receiver_unreachable receiver=%s reason=%r", self.name, str(error))
                self.error = str(error)
                if not self._rest(wait):
                    return
                wait = min(wait * 2, self._patience.most)
                continue
            except Exception:  # what cannot be sent must not stop what comes after it
                log.exception("event=receiver_failed receiver=%s items=%d", self.name, len(batch))
                self.lost += len(batch)
            wait = self._patience.least
            with self._guard:
                for key, item in batch.items():
                    if self._waiting.get(key) is item:
                        del self._waiting[key]

    def _next(self) -> dict[Hashable, Item] | None:
        """The oldest items, once there are any; None when it is time to end."""
        with self._guard:
            self._guard.wait_for(lambda: bool(self._waiting) or self._until is not None)
            if self._until is not None and (not self._waiting or time.monotonic() > self._until):
                return None
            return dict(islice(self._waiting.items(), self._batch))

    def _rest(self, seconds: float) -> bool:
        """Wait after a failure; whether to go on after it."""
        with self._guard:
            self._guard.wait_for(lambda: self._until is not None, seconds)
            return self._until is None
