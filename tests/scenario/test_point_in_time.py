"""Recoveries to random moments of a running workload give exactly what had been committed by then.

What that is, pg_waldump says: the commits of the server's WAL in the order in which they stand there.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from atalaia.backup.model import Target
from atalaia.backup.site import Site
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.tools import variables
from tests.integration.conftest import (  # noqa: F401 - fixtures
    NewServer,
    folder,
    new_server,
    open_folder,
    pristine,
    site,
)
from tests.integration.wal_support import base_backup, flushed, recovered, rows, sql, streaming

SOAK = bool(os.environ.get("ATALAIA_SOAK"))
ROUNDS = 20 if SOAK else 2
WRITERS = 3
_RECORD = re.compile(
    r"tx: +(?P<xid>\d+), lsn: (?P<lsn>\S+), .*desc: (?:COMMIT (?P<time>\S+ \S+) UTC|RESTORE_POINT (?P<name>\S+))"
)


@dataclass(frozen=True)
class Record:
    """A commit, or a restore point, of the WAL."""

    xid: int
    lsn: str
    time: datetime | None
    name: str


def _write(cluster: Cluster, writer: int, stop: threading.Event) -> None:
    """Numbered rows with checksums, and in the same transaction the sum over them."""
    with connect(cluster) as connection:
        number = 0
        while not stop.is_set():
            number += 1
            text = os.urandom(random.randrange(10, 3000)).hex()
            digest = hashlib.sha256(f"{writer}/{number}/{text}".encode()).hexdigest()
            connection.execute("INSERT INTO ledger VALUES (%s, %s, %s, %s)", (writer, number, text, digest))
            connection.execute("UPDATE total SET n = n + 1, last = %s WHERE writer = %s", (digest, writer))
            connection.execute("ROLLBACK" if number % 17 == 0 else "COMMIT")


def _work(cluster: Cluster, seconds: float, chance: random.Random) -> None:
    sql(
        cluster,
        "CREATE TABLE ledger (writer int, number int, text text, digest text)",
        "CREATE TABLE total AS SELECT w AS writer, 0 AS n, '' AS last FROM generate_series(0, 9) w",
    )
    stop = threading.Event()
    writers = [threading.Thread(target=_write, args=(cluster, number, stop)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for number in range(int(seconds * 4)):
        stop.wait(chance.random() * 0.5)
        sql(cluster, f"SELECT pg_create_restore_point('p{number}')")
        if chance.random() < 0.3:
            sql(cluster, "SELECT pg_switch_wal()")
    stop.set()
    for writer in writers:
        writer.join()


def _records(cluster: Cluster, data: Path, start: str, end: str) -> list[Record]:
    """Commits and restore points in the order of the WAL, by PostgreSQL's own tool."""
    done = subprocess.run(
        [cluster.installation.program("pg_waldump"), f"--path={data}", f"--start={start}", f"--end={end}"],
        capture_output=True,
        text=True,
        env=variables({"TZ": "UTC"}),
        check=False,
    )
    found = [match for line in done.stdout.splitlines() if (match := _RECORD.search(line))]
    assert found, done.stderr
    return [
        Record(
            int(m["xid"]),
            m["lsn"],
            datetime.fromisoformat(m["time"] + "+00:00") if m["time"] else None,
            m["name"] or "",
        )
        for m in found
    ]


def _targets(records: list[Record], chance: random.Random) -> list[Callable[[], tuple[Target, set[int]]]]:
    """Ways to choose a target, each with the transactions that are committed by then."""

    def xids(until: int) -> set[int]:
        return {record.xid for record in records[:until] if record.time}

    def any_commit() -> int:
        return chance.choice([n for n, record in enumerate(records) if record.time and 5 < n < len(records) - 2])

    def time() -> tuple[Target, set[int]]:
        at, inclusive = records[any_commit()].time, chance.random() < 0.5
        assert at
        beyond = (n for n, r in enumerate(records) if r.time and (r.time > at if inclusive else r.time >= at))
        return Target(time=at, inclusive=inclusive), xids(next(beyond))

    def lsn() -> tuple[Target, set[int]]:
        position, inclusive = any_commit(), chance.random() < 0.5
        return Target(lsn=records[position].lsn, inclusive=inclusive), xids(position + inclusive)

    def name() -> tuple[Target, set[int]]:
        position = chance.choice([n for n, record in enumerate(records) if record.name])
        return Target(name=records[position].name), xids(position)

    return [time, lsn, name]


def _check(copy: Cluster, known: dict[int, tuple[int, int, str]], committed: set[int]) -> int:
    """The ledger has exactly the rows of these transactions, and the totals agree with it."""
    expected = sorted(known[xid] for xid in committed if xid in known)
    found = rows(copy, "SELECT writer, number, digest, text FROM ledger ORDER BY writer, number")
    for writer, number, digest, text in found:
        assert hashlib.sha256(f"{writer}/{number}/{text}".encode()).hexdigest() == digest
    assert [row[:3] for row in found] == expected
    totals = rows(copy, "SELECT writer, n, last FROM total WHERE n > 0 ORDER BY writer")
    own = {row[0]: (0, "") for row in expected}
    for writer, _, digest in expected:
        own[writer] = (own[writer][0] + 1, digest)
    assert totals == [(writer, *own[writer]) for writer in sorted(own)]
    return len(found)


@pytest.mark.timeout(3600 if SOAK else 300)
@pytest.mark.parametrize("major", [15, 16, 18] if SOAK else [16])
def test_recoveries_to_random_moments_give_exactly_what_was_committed(
    major: int,
    new_server: NewServer,  # noqa: F811 - a fixture
    site: Site,  # noqa: F811 - a fixture
    folder: Path,  # noqa: F811 - a fixture
) -> None:
    seed = int(os.environ.get("ATALAIA_SEED", random.SystemRandom().randrange(10**6)))
    print(f"ATALAIA_SEED={seed}")
    chance = random.Random(seed)
    # pg_waldump reads the server's own WAL at the end.
    server = new_server(major=major, settings={"fsync": False, "wal_keep_size": "4GB"})
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        _work(server, 15 if SOAK else 2, chance)
        known = {
            int(xid): (writer, number, digest)
            for xid, writer, number, digest in rows(server, "SELECT xmin::text, writer, number, digest FROM ledger")
        }
        end = flushed(server)
        stream.archived(end, seconds=60)
    records = _records(server, server.data / "pg_wal", details["stop_lsn"], end)
    assert len([r for r in records if r.time]) > 20
    choices = _targets(records, chance)
    chance.shuffle(choices)
    counts = []
    for number in range(ROUNDS):
        target, committed = choices[number % len(choices)]()
        try:
            with recovered(site, server, folder / "base", details, target) as copy:
                counts.append(_check(copy, known, committed))
        except psycopg.Error as error:
            raise AssertionError(f"{target}: {error}") from error
    print(f"PostgreSQL {major}: {ROUNDS} recoveries, rows {counts}, of {len(known)}")
