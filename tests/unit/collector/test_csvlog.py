from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.collector import pipeline
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.plan import Job

NOW = 10**18
AT = 1772366400 * 10**9 + 250_000_000
HEAD = '2026-03-01 12:00:00.250 UTC,"ann","shop",77,"::1:5555",69a.4d,3,"SELECT",2026-03-01 11:59:00 UTC,3/7,745,'
TAIL = {23: "", 24: ',"client backend"', 26: ',"client backend",76,-5'}


def quoted(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'


def record(message: str, width: int = 26, severity: str = "LOG", **parts: str) -> str:
    names = ("detail", "hint", "query", "", "context", "statement", "", "location")
    middle = ",".join(quoted(parts.get(name)) for name in names)
    return f'{HEAD}{severity},00000,{quoted(message)},{middle},"psql"{TAIL[width]}\n'


def rows(block: bytes) -> list[dict[str, Any]]:
    batch = pipeline.run(JOB, block, NOW, {"job": "postgres"}, pipeline.ALL).entries.record_batch()
    batch.validate(full=True)
    return [{**r, "labels": json.loads(r["labels"]), "metadata": dict(r["metadata"] or [])} for r in batch.to_pylist()]


JOB = Job("j", (), csvlog)


@pytest.mark.parametrize("width", [23, 24, 26])
def test_a_record_of_every_release(width: int) -> None:
    text = record("relation ção", width, "FEHLER", detail="d", hint="h", query="q", context="c", statement="SELECT\n1")
    (row,) = rows(text.encode())
    assert row["line"] == "FEHLER:  relation ção\nDETAIL:  d\nHINT:  h\nQUERY:  q\nCONTEXT:  c\nSTATEMENT:  SELECT\n1"
    assert (row["ts"], row["labels"]) == (AT, {"job": "postgres", "severity": "ERROR"})
    wanted = {
        "pid": "77",
        "user": "ann",
        "database": "shop",
        "application": "psql",
        "remote_host": "::1",
        "remote_port": "5555",
        "session": "69a.4d",
        "session_line": "3",
        "session_start": "2026-03-01 11:59:00 UTC",
        "command_tag": "SELECT",
        "virtual_transaction": "3/7",
        "transaction": "745",
    }
    if width > 23:
        wanted["backend_type"] = "client backend"
    if width > 24:
        wanted |= {"leader_pid": "76", "query_id": "-5"}
    assert row["metadata"] == wanted


def test_a_socket_has_no_port_and_a_location_is_a_line() -> None:
    text = record("x", location="f, g.c:9").replace("::1:5555", "[local]")
    (row,) = rows(text.encode())
    assert row["metadata"]["remote_host"] == "[local]"
    assert "remote_port" not in row["metadata"]
    assert row["line"] == "LOG:  x\nLOCATION:  f, g.c:9"


def test_an_upgrade_within_a_file() -> None:
    found = rows((record("a", 23) + record("b\nc", 26) + record("d", 24)).encode())
    assert [r["line"] for r in found] == ["LOG:  a", "LOG:  b\nc", "LOG:  d"]


TORN = record("cut, here")[:-60]


@pytest.mark.parametrize("torn", [TORN, "no record", "", '"', HEAD, f'{HEAD}LOG,00000,"unended', "a,b,c", "\0"])
def test_torn_lines_stay_beside_good_ones(torn: str) -> None:
    text = record("a\n1") + torn + "\n" + record("b") + record('c\n"2"')
    found = rows(text.encode())
    assert [r["line"] for r in found] == ["LOG:  a\n1", torn, "LOG:  b", 'LOG:  c\n"2"']
    assert [r["labels"].get("severity") for r in found] == ["LOG", None, "LOG", "LOG"]
    assert rows((torn + "\n").encode())[0]["line"] == torn


def test_an_unfinished_record_waits_for_its_end() -> None:
    whole = record("first") + record("one\ntwo\nthree")
    block = whole[: whole.rindex("three")].encode()
    taken = pipeline.run(JOB, block, NOW, {})
    assert (taken.lines, taken.entries.lines.to_pylist()) == (1, ["LOG:  first"])
    assert len(pipeline.run(JOB, block, NOW, {}, pipeline.ALL).entries) == 3


def in_pieces(block: bytes, cuts: Sequence[int]) -> list[dict[str, Any]]:
    """What a collector would deliver that reads up to each cut, and again what was held back."""
    found: list[dict[str, Any]] = []
    done = 0
    for cut in [*sorted(cuts), len(block)]:
        end = block.rfind(b"\n", 0, cut) + 1
        if end <= done:
            continue
        piece = block[done:end]
        taken = pipeline.run(JOB, piece, NOW, {"job": "postgres"}, pipeline.ALL if end == len(block) else 0)
        found += [{**r, "metadata": dict(r["metadata"] or [])} for r in taken.entries.record_batch().to_pylist()]
        done += sum(len(line) + 1 for line in piece.split(b"\n")[: taken.lines])
    assert done == len(block)
    return found


TEXTS = st.text(st.sampled_from('a",\né\t\r;'), max_size=12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from([23, 24, 26])), min_size=1, max_size=5),
    st.lists(st.integers(0, 2000), max_size=4),
)
def test_blocks_cut_anywhere_give_the_same_entries(texts: list[tuple[str, str, int]], cuts: list[int]) -> None:
    block = "".join(record(message, width, detail=detail) for message, detail, width in texts).encode()
    found = in_pieces(block, cuts)
    assert [r["line"] for r in found] == [f"LOG:  {message}\nDETAIL:  {detail}" for message, detail, _ in texts]
    assert found == in_pieces(block, [])
