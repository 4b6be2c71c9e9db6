"""The oracle that judges restored servers sees every sort of change, and none where nothing has changed."""

from __future__ import annotations

from tests.scenario.backup_chaos import reading
from tests.scenario.backup_oracle import content, differences

from atalaia.postgres.cluster import Cluster

BEGIN = (
    "CREATE ROLE clerk PASSWORD 'a'",
    "CREATE TABLE t (a int PRIMARY KEY, b text)",
    "INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
    "CREATE UNLOGGED TABLE u (a int)",
    "CREATE TABLE part (k int) PARTITION BY LIST (k)",
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)",
    "CREATE SEQUENCE s",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT lo_from_bytea(4711, 'abc')",
)
CHANGES = {
    "UPDATE t SET b = 'x' WHERE a = 50": "rows of public.t",
    "INSERT INTO part VALUES (1)": "rows of public.part_1",
    "INSERT INTO u VALUES (1)": "unlogged rows of public.u",
    "SELECT nextval('s')": "sequence public.s",
    "SELECT lo_put(4711, 1, 'x')": "large object 4711",
    "GRANT SELECT ON t TO clerk": "GRANT SELECT",
    "COMMENT ON COLUMN t.b IS 'c'": "COMMENT ON COLUMN",
    "CREATE INDEX ON t (b)": "CREATE INDEX",
    "ALTER TABLE t ALTER b SET DEFAULT 'y'": "DEFAULT 'y'",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'": "SELECT 2",
    "ALTER ROLE clerk PASSWORD 'b'": "ALTER ROLE clerk",
    "ALTER ROLE clerk SET work_mem = '9MB'": "ALTER ROLE clerk SET work_mem",
    "ALTER DATABASE postgres SET work_mem = '9MB'": "ALTER DATABASE postgres SET work_mem",
    "ALTER DATABASE postgres CONNECTION LIMIT 7": "database 'postgres'",
    "CREATE DATABASE other": "database 'other'",
}


def test_it_sees_every_change_and_no_other(server: Cluster) -> None:
    source = reading(server)
    with source.connect() as connection:
        for statement in BEGIN:
            connection.execute(statement.encode())
        before = content(source)
        assert differences(before, content(source)) == []
        for statement in CHANGES:
            connection.execute(statement.encode())
    seen = differences(before, content(source))
    for statement, what in CHANGES.items():
        assert any(what in line for line in seen), statement


def test_what_crash_recovery_may_change_and_nothing_more() -> None:
    recorded = {
        "'d' unlogged rows of public.u": "3 aa",
        "'d' rows of public.t": "3 aa",
        "'d' sequence public.s": "7 True 1",
    }
    empty = {**recorded, "'d' unlogged rows of public.u": "0 bb"}
    assert differences(recorded, empty, crashed=True) == []
    assert len(differences(recorded, empty)) == 1
    for value, good in (("7 True 1", True), ("40 True 1", True), ("41 True 1", False), ("6 True 1", False)):
        assert (differences(recorded, {**recorded, "'d' sequence public.s": value}, crashed=True) == []) is good
    assert len(differences(recorded, {**recorded, "'d' rows of public.t": "3 bb"}, crashed=True)) == 1
