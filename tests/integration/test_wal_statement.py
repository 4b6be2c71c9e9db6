"""The moment just before a statement, out of the lines that servers log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from api_support import NOW, S, Served, Tenant, served, tenant

from atalaia.backup.wal.statement import before_statement
from atalaia.client.loki import LokiClient
from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError

__all__ = ["served", "tenant"]
BASE = datetime.fromtimestamp(NOW // S, UTC)


@pytest.fixture
def client(served: Served, tenant: Tenant) -> Iterator[LokiClient]:
    found = LokiClient(Connection(served.url, tenant=tenant.name))
    yield found
    found.close()


def push(tenant: Tenant, *lines: str, server: str = "a") -> None:
    """A line a second."""
    tenant.push({"job": "postgres", "server": server}, [(NOW + number * S, line) for number, line in enumerate(lines)])


def ask(client: LokiClient, text: str) -> tuple[timedelta, str]:
    target, entry = before_statement(client, "a", text, start=NOW - S, end=NOW + 1000 * S)
    assert target.time
    assert not target.inclusive
    return target.time - BASE, entry.line


def test_the_newest_statement_with_the_text_counts(client: LokiClient, tenant: Tenant) -> None:
    push(
        tenant,
        "LOG:  statement: DROP TABLE invoices",
        "LOG:  execute <unnamed>: DROP TABLE invoices\nCASCADE",
        "LOG:  statement: DROP TABLE others",
        "LOG:  connection received: DROP TABLE invoices",
    )
    push(tenant, *["LOG:  statement: DROP TABLE invoices"] * 9, server="b")
    seconds, line = ask(client, "DROP TABLE invoices")
    assert seconds == timedelta(seconds=1)
    assert "CASCADE" in line


def test_a_duration_is_taken_off(client: LokiClient, tenant: Tenant) -> None:
    push(tenant, "LOG:  statement: SELECT 1", 'LOG:  duration: 1500.250 ms  statement: DELETE FROM "t" \\ --x')
    assert ask(client, 'DELETE FROM "t" \\')[0] == timedelta(seconds=1) - timedelta(microseconds=1_500_250)


def test_a_statement_that_failed_counts_only_when_none_did_not(client: LokiClient, tenant: Tenant) -> None:
    push(
        tenant,
        "LOG:  statement: DROP TABLE t",
        'ERROR:  table "t" does not exist\nSTATEMENT:  DROP TABLE t',
        'ERROR:  table "u" does not exist\nSTATEMENT:  DROP TABLE u',
    )
    assert ask(client, "DROP TABLE t")[0] == timedelta(0)
    assert ask(client, "DROP TABLE u")[0] == timedelta(seconds=2)


def test_what_is_not_logged_is_not_found(client: LokiClient, tenant: Tenant) -> None:
    push(tenant, "LOG:  statement: SELECT 1", 'ERROR:  relation "DROP TABLE t" does not exist')
    with pytest.raises(InputError, match="no statement that contains 'DROP TABLE t'"):
        ask(client, "DROP TABLE t")
    with pytest.raises(InputError, match="is empty"):
        ask(client, " ")
