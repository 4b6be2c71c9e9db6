"""Answers LogQL from a store: snapshot -> relation -> SQL -> streams or series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from atalaia.environment.errors import InputError
from atalaia.logql import evaluate, rows
from atalaia.logql.entry import Entry
from atalaia.logql.matrix import Matrix
from atalaia.logql.plan import Pipeline, Streams, compile_pipeline, without_unread
from atalaia.logql.printer import print_query
from atalaia.logql.tree import Grouping, LineFilter, LogQuery, Metric, RangeAggregation
from atalaia.logql.walk import log_queries
from atalaia.logql.window import Grid
from atalaia.query.engine import Engine
from atalaia.query.fetch import Found, bounded, fetched
from atalaia.query.ranges import RangeQuery, Tenants, line_conditions, streams_at, streams_of
from atalaia.query.ticket import Ticket
from atalaia.store.deletion import Deletion
from atalaia.store.relation import Reading, chosen, numbers, relation
from atalaia.store.snapshot import Part, Snapshot, in_order
from atalaia.store.store import Store

_PAGE_MOST = 50_000  # rows read at a time where Python decides which of them pass
MAX_POINTS_IN_ALL = 20_000_000  # of all range aggregations of a query
_DELETING = ("|=", "!=", "|~", "!~")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The first `limit` entries of [start, end) ns in a direction."""

    start: int
    end: int
    limit: int
    backward: bool
    ticket: Ticket


class Executor:
    """Queries over one store."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        engine.stream_labels = store.streams.values_of
        engine.stream_tenants = store.streams.tenants_of

    def ticket(self) -> Ticket:
        """Leave for a query that begins now; every method takes one, and makes its own without."""
        return self._engine.ticket()

    def ticket_for_rules(self) -> Ticket:
        """The same for a rule: at a place of its own, so that it waits for no query, and no query for it."""
        ticket = self._engine.ticket()
        ticket.place = self._engine.limits.for_rules
        return ticket

    def logs(
        self,
        query: LogQuery,
        tenants: Tenants,
        start: int,
        end: int,
        limit: int,
        backward: bool,
        ticket: Ticket | None = None,
        snapshot: Snapshot | None = None,
    ) -> list[Entry]:
        """The first `limit` entries of [start, end) ns in the given direction, of `snapshot` or of what is stored now.

        Equal times are in order of arrival; a backward answer is the exact mirror of a forward one.
        """
        wanted = _Wanted(start, end, limit, backward, ticket or self.ticket())
        run, most = rows.pipeline(query), self._engine.limits.answer
        with nullcontext(snapshot) if snapshot else self._store.snapshot() as snapshot:
            streams = streams_of(query, tenants, snapshot)
            pipeline = compile_pipeline(query, streams)

            def entry(row: Found) -> Entry | None:
                ts, _, stream, line, metadata = row
                return run(ts, line, streams.labels[stream], metadata or {})

            parts = in_order(chosen(snapshot.parts, streams.labels, start, end), backward)
            found: list[Found] = []
            width = 1
            while some := list(islice(parts, width)):
                # Parts come in the order of the answer; one that begins behind the last wanted entry cannot add to it.
                if len(found) >= limit:
                    edge = found[limit - 1][0]
                    if (some[0].max_ts < edge) if backward else (some[0].min_ts > edge):
                        break
                width *= 2
                found += self._first(some, pipeline, wanted, lambda row: entry(row) is not None)
                found.sort(key=lambda row: (row[0], row[1]), reverse=backward)
                del found[limit:]
                bounded(found, most, most)
            entries = [seen for row in found if (seen := entry(row))]
            wanted.ticket.passed = len(entries)
            return entries

    def passing(
        self,
        query: LogQuery,
        tenants: Tenants,
        streams: Mapping[int, Mapping[str, str]],
        batches: Sequence[pa.RecordBatch],
        ticket: Ticket,
        tenanted: bool = False,
    ) -> list[Found]:
        """The entries of some batches (`memory.SCHEMA`), all of `streams`, that may pass a query, in order of time.

        `tenanted`: whether the streams are those of several tenants, and their labels say so.
        """
        first = min(batch.column("seq")[0].as_py() for batch in batches)
        low, high = -(2**63), 2**63 - 1
        part = Part(sum(map(len, batches)), low, high, first, None, batches=tuple(batches))
        wanted = _Wanted(low, high, part.rows, False, ticket)
        of = Streams(streams)
        if of.many:
            of = streams_at(self._store.streams, tenants, streams)
        return self._page([part], compile_pipeline(query, of), wanted, part.rows, None)

    def _first(
        self, parts: Sequence[Part], pipeline: Pipeline, wanted: _Wanted, passes: Callable[[Found], bool]
    ) -> list[Found]:
        """The first wanted entries of some parts; `passes` decides where the pipeline's SQL does not say all."""
        if pipeline.whole:
            return self._page(parts, pipeline, wanted, wanted.limit, None)
        found: list[Found] = []
        most, last = wanted.limit, None
        while True:
            page = self._page(parts, pipeline, wanted, most, last)
            for nth, row in enumerate(page):
                if nth % 256 == 0:
                    wanted.ticket.check()
                if passes(row):
                    found.append(row)
            if len(page) < most or len(found) >= wanted.limit:
                return found[: wanted.limit]
            most, last = min(most * 4, _PAGE_MOST), page[-1]

    def _page(
        self, parts: Sequence[Part], pipeline: Pipeline, wanted: _Wanted, most: int, last: Found | None
    ) -> list[Found]:
        """The first `most` entries behind `last`."""
        order, behind = ("DESC", "<") if wanted.backward else ("ASC", ">")
        streams, start, end = pipeline.streams.labels, wanted.start, wanted.end
        where = pipeline.where(lines=False)
        if last is not None:
            where += f"{' AND' if where else ' WHERE'} (ts, seq) {behind} ({last[0]:d}, {last[1]:d})"
            start, end = (start, last[0] + 1) if wanted.backward else (last[0], end)
        with self._engine.cursor(wanted.ticket) as connection:
            lines = line_conditions(pipeline)
            readings, check = wanted.ticket.readings, wanted.ticket.check
            source = relation(
                connection, parts, streams, start, end, lines, keys=pipeline.keys, readings=readings, check=check
            )
            # Segments may have been verified meanwhile, which no interrupt ends.
            check()
            columns = f"SELECT ts, seq, stream_id, line, metadata FROM ({source}){where}"
            wanted.ticket.statements.append(f"{columns} ORDER BY ts {order}, seq {order} LIMIT {most:d}")
            return fetched(connection.execute(wanted.ticket.statements[-1]), wanted.ticket, self._engine.limits.answer)

    def readings(
        self, tree: LogQuery | Metric, tenants: Tenants, start: int, end: int, ticket: Ticket | None = None
    ) -> list[Reading]:
        """What is read for each log query in `tree`, if it asks for entries of [start, end) ns."""
        found: list[Reading] = []
        with self._store.snapshot() as snapshot:
            for query in log_queries(tree):
                streams = streams_of(query, tenants, snapshot)
                conditions = line_conditions(compile_pipeline(query, streams))
                parts = chosen(snapshot.parts, streams.labels, start, end)
                with self._engine.cursor(ticket) as connection:
                    relation(connection, parts, streams.labels, start, end, conditions, readings=found)
        return found

    def delete(self, query: LogQuery, tenant: str, start: int, end: int) -> Deletion:
        """Hide the entries of [start, end) ns that a selector and line filters find. Raises InputError for more."""
        for stage in query.stages:
            if not isinstance(stage, LineFilter) or stage.op not in _DELETING or any(m.ip for m in stage.alternatives):
                raise InputError("a deletion takes a selector, and filters of lines by |=, !=, |~ and !~ alone")
        with self._store.snapshot() as snapshot:
            streams = streams_of(query, (tenant,), snapshot)
        conditions = line_conditions(compile_pipeline(query, streams))
        return self._store.delete(tenant, print_query(query), start, end, numbers(streams.labels), conditions)

    def metric(
        self, tree: Metric, tenants: Tenants, start: int, step: int, steps: int, ticket: Ticket | None = None
    ) -> Matrix:
        """The series of a metric query at `steps` moments from `start`, `step` ns apart."""
        ticket = ticket or self.ticket()
        points = 0
        with self._store.snapshot() as snapshot:

            def leaf(found: RangeAggregation, grouping: Grouping | None) -> Matrix:
                aggregation = without_unread(found)
                grid = Grid(start - aggregation.offset_ns, step, steps, aggregation.range_ns)
                streams = streams_of(aggregation.query, tenants, snapshot)
                parts = chosen(snapshot.parts, streams.labels, grid.first + 1, grid.last + 1)
                matrix = RangeQuery(self._engine, ticket, parts, streams, aggregation, grouping, grid).matrix()
                nonlocal points
                points += matrix.values.size
                if points > MAX_POINTS_IN_ALL:
                    raise InputError(
                        f"the parts of the query have more than {MAX_POINTS_IN_ALL} points in all",
                        "ask for a larger step, or group by fewer labels",
                    )
                return matrix

            return evaluate.evaluate(tree, leaf, steps, ticket.check)
