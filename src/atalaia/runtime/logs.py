"""How Atalaia's own processes log: one logfmt line an event, in a file that is rotated."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

_MOST = 8 << 20  # bytes of a file; three older ones are kept


class _Logfmt(logging.Formatter):
    """`ts=… level=… service=… event=…`; an exception becomes a field, since a line is an event."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = f"ts={moment} level={record.levelname.lower()} service={self._service} {record.getMessage()}"
        if record.exc_info:
            text += f" error={self.formatException(record.exc_info)!r}"
        return text.replace("\n", "\\n")


def configure(service: str, path: Path | None) -> None:
    """Send this process's log to `path`, or to stderr without one."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=_MOST, backupCount=3, encoding="utf-8")
    handler.setFormatter(_Logfmt(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # These tell of every request at INFO.
    for noisy in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
