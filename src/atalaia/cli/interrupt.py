"""Ctrl-C between two writes, never within one: what was written is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def whole() -> Iterator[None]:
    """A Ctrl-C within waits until the end; a second one does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def wait(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
