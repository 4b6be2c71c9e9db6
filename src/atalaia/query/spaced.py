"""Entries that are at least some time apart: the parameter `interval` of Loki's query_range."""

from __future__ import annotations

from atalaia.logql.entry import Entry
from atalaia.logql.tree import LogQuery
from atalaia.query.execute import Executor
from atalaia.query.ranges import Tenants
from atalaia.query.ticket import Ticket

_PAGE = 1000  # entries asked for at a time


def spaced(
    executor: Executor,
    query: LogQuery,
    tenants: Tenants,
    start: int,
    end: int,
    limit: int,
    backward: bool,
    interval: int,
    ticket: Ticket,
) -> list[Entry]:
    """The first `limit` entries of [start, end) ns of which each is `interval` ns or more behind the one before.

    As in Loki the distance is one between all entries, whichever their streams.
    """
    kept: list[Entry] = []
    while start < end:
        page = executor.logs(query, tenants, start, end, min(limit, _PAGE), backward, ticket)
        for entry in page:
            if not kept or abs(entry.ts - kept[-1].ts) >= interval:
                kept.append(entry)
                if len(kept) == limit:
                    return kept
        if len(page) < min(limit, _PAGE):
            return kept
        # What is left of the interval is not read at all.
        if backward:
            end = kept[-1].ts - interval + 1
        else:
            start = kept[-1].ts + interval
    return kept
