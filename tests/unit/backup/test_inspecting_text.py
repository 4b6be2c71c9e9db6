from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.backup.inspecting import inspect as inspecting
from atalaia.backup.inspecting.findings import Effect, Report
from atalaia.backup.inspecting.inspect import Inspected
from atalaia.environment.errors import InputError

DUMP = rb"""--
-- PostgreSQL database dump
--

-- Dumped from database version 16.14
-- Dumped by pg_dump version 16.14

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.f() RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
  RETURN 'it''s; a body';
END
$$;

CREATE TABLE public.t (
    a integer,
    b text
);

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.t (a, b) FROM stdin;
1	x
2	said pg_dump: error: this is data
3	z
\.

COPY public.one (only) FROM stdin;
WARNING:  this is data too
a
\.

ALTER TABLE ONLY public.t
    ADD CONSTRAINT t_pkey PRIMARY KEY (a);

--
-- PostgreSQL database dump complete
--

"""
CLUSTER = rb"""--
-- PostgreSQL database cluster dump
--

\restrict abc

SET client_encoding = 'UTF8';

DROP DATABASE shop;
DROP ROLE alice;
DROP ROLE postgres;

CREATE ROLE alice;
ALTER ROLE alice WITH LOGIN PASSWORD 'SCRAM-SHA-256$4096:x$y:z';
CREATE ROLE postgres;

UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1';
DROP DATABASE template1;
CREATE DATABASE template1 WITH TEMPLATE = template0 ENCODING = 'UTF8';

\connect template1

--
-- PostgreSQL database dump complete
--

CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8';

\connect shop

COPY public.t (a) FROM stdin;
1
\.

CREATE USER MAPPING FOR alice SERVER s OPTIONS (
    password 'x',
    "user" 'y'
);

--
-- PostgreSQL database dump complete
--

\unrestrict abc
--
-- PostgreSQL database cluster dump complete
--

"""


def quiet(line: str) -> None:
    pass


def inspected(folder: Path, data: bytes, name: str = "dump.sql") -> Inspected:
    path = folder / name
    path.write_bytes(data)
    path.chmod(0o600)
    return inspecting.inspect(path, quiet)


def codes(report: Report) -> dict[str, Effect]:
    return {finding.code: finding.effect for finding in report.findings}


def repaired(one: Inspected) -> bytes:
    assert one.copy
    return b"".join(one.copy())


def test_a_whole_dump_is_restorable_as_it_is(tmp_path: Path) -> None:
    one = inspected(tmp_path, DUMP)
    assert one.report.verdict == "restorable as it is"
    # What looks like messages in a table of one column may be either: it is told, and left.
    assert codes(one.report) == {"stray-doubtful": Effect.WARNING}
    assert {(t.name, t.rows) for t in one.report.contents.tables} == {("public.t", 3), ("public.one", 2)}
    assert (one.report.server_version, one.report.scope) == ("16.14", "database")
    assert repaired(one) == DUMP


def _lines(text: bytes) -> list[int]:
    """Where stray lines may land without doubt: at line starts outside quotes and tables of one column."""
    places, position = [], 0
    for line in text.splitlines(keepends=True):
        inside = text.index(b"AS $$\n") < position <= text.index(b"$$;\n")
        if not inside and not text.index(b"COPY public.one") < position <= text.index(b"\\.\n\nALTER"):
            places.append(position)
        position += len(line)
    return places


_SAID = st.sampled_from(
    [
        b"pg_dump: warning: there are circular foreign-key constraints on this table:\n",
        b'pg_dump: dumping contents of table "public.it\'s"\n',
        b"pg_dumpall: running \"pg_dump  -Fp 'dbname=x'\"\n",
        b'WARNING:  database "x" has a collation version mismatch\n',
        b"DETAIL:  The database was created using collation version 2.31\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_lines(DUMP)), _SAID), max_size=6), st.booleans(), st.booleans())
def test_messages_between_lines_and_a_terminals_line_ends_are_undone(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, bytes]], terminal: bool, mark: bool
) -> None:
    damaged = DUMP
    for place, message in sorted(said, key=lambda one: -one[0]):
        damaged = damaged[:place] + message + damaged[place:]
    if terminal:
        damaged = damaged.replace(b"\n", b"\r\n")
    if mark:
        damaged = b"\xef\xbb\xbf" + damaged
    one = inspected(tmp_path_factory.mktemp("dump"), damaged)
    assert repaired(one) == DUMP
    assert one.report.restorable == (not (said or terminal or mark))
    assert ("stray" in codes(one.report)) == bool(said)
    assert ("crlf" in codes(one.report)) == terminal


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(DUMP) - 1))
def test_wherever_a_dump_is_cut_off_it_is_never_called_whole(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    one = inspected(tmp_path_factory.mktemp("dump"), DUMP[:at])
    closed = DUMP.rindex(b"-- PostgreSQL database dump complete")
    if at >= closed + len(b"-- PostgreSQL database dump complete\n"):
        assert one.report.restorable
        return
    # Nothing but the closing line can stand there: all data is before it.
    if at >= closed + len(b"-- PostgreSQL database d") and "closing-line" in codes(one.report):
        assert repaired(one) == DUMP
        return
    assert not one.report.restorable
    if one.copy:
        text = repaired(one)
        assert b"-- NOT WHOLE: this dump was cut off" in text
        kept = text[: text.index(b"--\n-- NOT WHOLE")]
        assert kept.count(b"FROM stdin;") == kept.count(b"\n\\.\n")
        assert DUMP.startswith((kept, kept.removesuffix(b"\\.\n\n")))


def test_rows_of_the_last_table_are_told(tmp_path: Path) -> None:
    one = inspected(tmp_path, DUMP[: DUMP.index(b"3\tz")])
    (finding,) = [finding for finding in one.report.findings if finding.code == "cut-off"]
    assert "in the rows of the table public.t, of which 2 are whole" in finding.what
    assert one.report.verdict == "restorable in part"


def test_drops_are_told_and_taken_out(tmp_path: Path) -> None:
    one = inspected(tmp_path, CLUSTER)
    (finding,) = [finding for finding in one.report.findings if finding.code == "drops"]
    assert "DROPS the databases shop, template1 and the roles alice, postgres" in finding.what
    assert codes(one.report)["secrets"] is Effect.WARNING
    assert any("foreign servers" in finding.what for finding in one.report.findings)
    assert set(one.report.contents.databases) == {"shop", "template1"}
    text = repaired(one)
    assert b"DROP" not in text
    assert b"datistemplate" not in text
    assert b"CREATE DATABASE template1" not in text
    assert b"CREATE DATABASE shop" in text
    assert text.count(b"EXCEPTION WHEN duplicate_object") == 2
    again = inspected(tmp_path, text, "again.sql")
    assert again.report.verdict == "restorable as it is"
    assert repaired(again) == text


def test_of_dumps_that_were_appended_the_last_is_kept(tmp_path: Path) -> None:
    alone = repaired(inspected(tmp_path, CLUSTER, "alone.sql"))
    one = inspected(tmp_path, CLUSTER + CLUSTER)
    assert codes(one.report)["several"] is Effect.REPAIR
    assert repaired(one) == alone
    assert inspected(tmp_path, DUMP + DUMP).copy is None


def test_text_around_and_within_is_taken_out(tmp_path: Path) -> None:
    before = b'could not change directory to "/root": Permission denied\nPassword: \n'
    one = inspected(tmp_path, before + DUMP + b"\nWhat's next:\n    Try Docker Debug\n")
    assert {"stray", "trailing"} <= set(codes(one.report))
    assert repaired(one).rstrip() == DUMP.rstrip()
    within = DUMP.replace(b"CREATE TABLE", b"Segmentation fault at 0x1\nCREATE TABLE", 1)
    one = inspected(tmp_path, within)
    assert "foreign" in codes(one.report)
    assert repaired(one) == DUMP


def test_a_message_within_a_row_is_told_from_data_by_columns(tmp_path: Path) -> None:
    said = b"pg_dump: warning: something\n"
    one = inspected(tmp_path, DUMP.replace(b"1\tx\n", b"1" + said + b"\tx\n"))
    assert repaired(one) == DUMP
    one = inspected(tmp_path, DUMP.replace(b"    AS $$\nBEGIN\n", b"    AS $$\nBEGIN\n" + said))
    assert repaired(one) != DUMP  # within a body it may be the author's
    assert codes(one.report) == {"stray-doubtful": Effect.WARNING}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "empty"),
        (b"<!DOCTYPE html><html>", "web-page"),
        (b'{"error": "no such container"}', "json"),
        (b"Error response from daemon: No such container: postgres_a\r\n", "message"),
        (b"Password: \r\n", "message"),
        (
            b'pg_dump: error: connection to server on socket "/x" failed: FATAL:  role "root" does not exist\n',
            "message",
        ),
        (b"bash: pg_dumpall: command not found\n", "message"),
        (b"-- MySQL dump 10.13\n", "mysql"),
        (b"\x00\x01\x02 something", "unknown"),
    ],
)
def test_what_stands_in_a_dumps_place(tmp_path: Path, data: bytes, code: str) -> None:
    one = inspected(tmp_path, data)
    assert one.report.verdict == "not restorable"
    assert one.report.findings[0].code == code
    with pytest.raises(InputError, match="cannot be repaired"):
        inspecting.write_repaired(one, tmp_path / "out")


def test_what_a_copy_is_written_over(tmp_path: Path) -> None:
    one = inspected(tmp_path, DUMP)
    out = tmp_path / "out.sql"
    assert inspecting.write_repaired(one, out) == len(DUMP)
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        inspecting.write_repaired(one, out)
    (tmp_path / "dump.sql").write_bytes(DUMP + b"\n")
    with pytest.raises(InputError, match="has changed"):
        inspecting.write_repaired(one, tmp_path / "other.sql")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.sql", "out.sql"]


def test_names_modes_and_encodings(tmp_path: Path) -> None:
    path = tmp_path / "dump_08-08-2024_23_11_43.sql"
    path.write_bytes(DUMP.replace(b"1\tx", b"1\t\xe9"))
    path.chmod(0o644)
    found = codes(inspecting.inspect(path, quiet).report)
    assert {"name", "mode", "not-utf-8"} <= set(found)
    assert found["not-utf-8"] is Effect.PARTIAL


def test_a_quote_that_nothing_closes_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atalaia.backup.inspecting.text.STATEMENT_LIMIT", 100_000)
    one = inspected(tmp_path, DUMP.replace(b"$$;", b"$x;", 1) + b"a line\n" * 500_000)
    assert codes(one.report)["quote"] is Effect.FATAL
