"""Just before a statement: the newest one in a server's log that contains a text, and the moment that it began."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime, timedelta

import psycopg

from atalaia.backup.model import Target
from atalaia.client.entries import LogEntry
from atalaia.client.loki import LokiClient
from atalaia.environment.errors import InputError
from atalaia.logql.literals import quote
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

# What log_statement, log_min_duration_statement and auto_explain's kin write; STATEMENT stands below an error.
_DONE = re.compile(
    r"LOG: +(?:duration: (?P<ms>\d+\.\d+) ms +)?(?:statement|execute [^:]*|parse [^:]*|bind [^:]*|fastpath [^:]*): "
    r"(?P<text>.*)",
    re.DOTALL,
)
_FAILED = re.compile(r"^STATEMENT: +(?P<text>.*)", re.DOTALL | re.MULTILINE)
_MOST = 10_000  # lines that are looked at
_BACK = 400 * 86_400 * 10**9


def before_statement(
    client: LokiClient, server: str, text: str, *, start: int | None = None, end: int | None = None
) -> tuple[Target, LogEntry]:
    """Just before the newest statement of `server` that contains `text`, and its line; [start, end) in ns.

    A statement that failed counts only when none did not: it has changed nothing. Raises InputError when the log has
    no such statement, what LokiClient raises.
    """
    if not text.strip():
        raise InputError("the text of the statement is empty", "give a part of it, such as 'DROP TABLE invoices'")
    now = time.time_ns() + 1
    query = f'{{job="postgres", server={quote(server)}}} |= {quote(text)}'
    found = client.entries(
        query, start=now - _BACK if start is None else start, end=end or now, limit=_MOST, newest_first=True
    )
    failed: LogEntry | None = None
    for entry in found:
        if (match := _DONE.match(entry.line)) and text in match["text"]:
            return Target(time=_began(entry, match["ms"]), inclusive=False), entry
        if failed is None and (match := _FAILED.search(entry.line)) and text in match["text"]:
            failed = entry
    if failed is not None:
        return Target(time=_began(failed, None), inclusive=False), failed
    raise InputError(
        f"the log of {server} has no statement that contains {text!r}",
        "only statements that are logged are found: those slower than log_min_duration_statement, all that "
        'log_statement names ("ddl", "mod"); give a time instead',
    )


def caught_up(client: LokiClient, cluster: Cluster, patience: float = 20.0) -> bool:
    """Wait until what a running server has logged up to now is stored, at most `patience` seconds; whether it is.

    A line of our own goes through the same log: once it is found, all that was logged before it is there too. Without
    this an older statement with the same text would be taken for the newest. Raises what LokiClient raises.
    """
    mark, began = secrets.token_hex(8), time.time_ns()
    try:
        with connect(cluster, autocommit=True) as connection:
            connection.execute(f"DO $$BEGIN RAISE LOG 'atalaia looks for a statement ({mark})'; END$$".encode())
    except psycopg.Error:
        return False
    query = f'{{job="postgres", server={quote(cluster.name)}}} |= "{mark}"'
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        # The server's clock may be a little behind ours.
        start, end = began - 3600 * 10**9, time.time_ns() + 3600 * 10**9
        if any(True for _ in client.entries(query, start=start, end=end, limit=1)):
            return True
        time.sleep(0.1)
    return False


def _began(entry: LogEntry, milliseconds: str | None) -> datetime:
    """A moment at which the statement had not begun: lines have milliseconds, and durations are told at the end."""
    logged = datetime.fromtimestamp(entry.ts // 10**9, UTC) + timedelta(microseconds=entry.ts % 10**9 // 1000)
    return logged - timedelta(microseconds=round(float(milliseconds or 0) * 1000))
