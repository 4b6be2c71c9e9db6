"""A text is read in pieces: wherever they are cut, and wherever an import goes on, the entries are the same."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.collector.importing.content import Content
from atalaia.collector.importing.files import Given
from atalaia.collector.importing.reader import Reading, TextReader

LINES = [
    "2024-08-09 01:06:{n:02d}.5 UTC [1] LOG:  x {n}",
    "2024-08-09 01:06:{n:02d} UTC [1] ERROR:  é {n}",
    "\tmore of it",
    "java.lang.IllegalStateException: no",
    "level=warn ts=2024-08-09T01:06:{n:02d}Z caller=a.go:1 msg=x",
    "hello",
    "",
]
STRANGE = [
    "9999-99-99 99:99:99.999999999 UTC [1] LOG:  x",
    "0000-01-01 00:00:00 UTC [1] LOG:  x",
    "2262-12-31 23:59:59.999999999 +99:99 [1] LOG:  x",
    "1677-01-01 00:00:00Z x",
    "Feb 29 01:02:03 host x[1]: y",
    "Feb 31 01:02:03 host x[1]: y",
    "<999>Aug  9 01:02:03 host x",
    "<191>1 2024-08-09T01:02:03Z - - - - -",
    '{"ts": 99999999999999999999, "level": {}}',
    '{"ts": "2024-02-30T00:00:00Z"}',
    '{"time": null, "level": 1e400}',
    "[]",
    '{"ts":123456789.5}',
    "level=ts= ts=2024-08-09T01:02:03,",
    "\t",
    " | ",
    "x  | y | z",
    "1:M 31 Feb 2024 01:02:03.999 # x",
    '- - - [31/Foo/2024:01:02:03 +0000] "GET',
    "[Xyz Foo 99 01:02:03.1 2024] [a:b] x",
    "2024-08-09T01:02:03.000000001Z 2024-08-09T01:02:03.000000001Z ",
]
Row = tuple[int, str, str, dict[str, str] | None]


def rows(text: bytes, done: int = 0, size: int = 4 << 20) -> tuple[list[Row], list[int]]:
    """The entries behind `done` bytes, and where the pieces end."""
    name = Given("x.log", "x.log", datetime(2024, 9, 1, tzinfo=UTC), len(text), lambda: io.BytesIO(text))
    with patch("atalaia.collector.importing.content.BLOCK", size):
        pieces = list(TextReader(name, Reading({"job": "import"})).pieces(Content(name.open()), done))
    return [row for piece in pieces for row in _rows(piece.entries)], [piece.end for piece in pieces]


def _rows(table: pa.Table) -> list[Row]:
    found: list[dict[str, Any]] = table.to_pylist()
    return [(r["ts"], r["labels"], r["line"], dict(r["metadata"]) if r["metadata"] else None) for r in found]


def capture(chosen: list[tuple[str, int]]) -> bytes:
    lines = [
        f"2024-08-09T01:06:{n % 60:02d}.000000001Z {LINES[kind].format(n=n % 60)}" for n, (_, kind) in enumerate(chosen)
    ]
    return "".join(f"{name:5} | {line}\n" for (name, _), line in zip(chosen, lines, strict=True)).encode()


captures = st.lists(st.tuples(st.sampled_from(["db", "web-1", "app_2"]), st.integers(0, len(LINES) - 1)), max_size=40)


@settings(deadline=None, max_examples=20)
@given(captures, st.integers(80, 900), st.booleans())
def test_pieces_cut_anywhere_give_the_same_entries(chosen: list[tuple[str, int]], size: int, newline: bool) -> None:
    text = capture(chosen) if newline else capture(chosen).removesuffix(b"\n")
    whole, _ = rows(text)
    cut, ends = rows(text, size=size)
    assert sorted(cut, key=str) == sorted(whole, key=str)
    assert ends == sorted(ends)
    assert not text or ends[-1] == len(text)


@settings(deadline=None, max_examples=12)
@given(captures, st.integers(80, 400), st.data())
def test_what_is_behind_a_position_is_what_was_not_before_it(
    chosen: list[tuple[str, int]], size: int, data: st.DataObject
) -> None:
    text = capture(chosen)
    whole, ends = rows(text, size=size)
    if not ends:
        return
    number = data.draw(st.integers(0, len(ends) - 1))
    before, _ = rows(text[: ends[number]], size=size)
    after, _ = rows(text, done=ends[number], size=size)
    assert sorted(before + after, key=str) == sorted(whole, key=str)


def test_a_line_without_its_end_is_not_lost_when_the_file_grows() -> None:
    first = b"2024-08-09 01:06:43 UTC [1] LOG:  a\n2024-08-09 01:06:44 UTC [1] LOG:  b"
    found, ends = rows(first)
    assert [row[2] for row in found] == ["LOG:  a", "LOG:  b"]
    more, _ = rows(first + b"\n2024-08-09 01:06:45 UTC [1] LOG:  c\n", done=ends[-1])
    assert [row[2] for row in more] == ["LOG:  c"]


def test_a_record_that_has_grown_adds_its_new_lines_alone() -> None:
    first = b"2024-08-09 01:06:43 UTC [1] LOG:  a\n\tb\n"
    found, ends = rows(first)
    assert [row[2] for row in found] == ["LOG:  a\n\tb"]
    more, _ = rows(first + b"\tc\n\td\n2024-08-09 01:06:44 UTC [1] LOG:  e\n", done=ends[-1])
    assert [(row[0], row[2]) for row in more] == [(found[0][0], "\tc\n\td"), (found[0][0] + 10**9, "LOG:  e")]


def test_invalid_utf8_does_not_move_positions() -> None:
    text = b"2024-08-09 01:06:43 UTC [1] LOG:  \xff\xfe\n2024-08-09 01:06:44 UTC [1] LOG:  b\n"
    found, ends = rows(text)
    assert [row[2] for row in found] == ["LOG:  \ufffd\ufffd", "LOG:  b"]
    assert ends[-1] == len(text)
    more, _ = rows(text, done=text.index(b"\n") + 1)
    assert [row[2] for row in more] == ["LOG:  b"]


def test_a_file_without_any_time_has_the_files() -> None:
    found, _ = rows(b"one\ntwo\n")
    assert [(row[0], row[2]) for row in found] == [(1725148800 * 10**9, "one"), (1725148800 * 10**9, "two")]


def test_a_line_that_is_too_long_is_cut_and_told() -> None:
    text = b"2024-08-09 01:06:43 UTC [1] LOG:  " + b"x" * (2 << 20) + b"\n"
    (row,), _ = rows(text)
    assert len(row[2].encode()) <= 1 << 20
    assert "[cut: " in row[2]


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\x1b\x00\ufeff"), max_size=60).filter(
    lambda line: ":  " not in line
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(plain, st.sampled_from(STRANGE)), max_size=12), st.booleans())
def test_no_line_is_lost_whatever_is_in_it(lines: list[str], captured: bool) -> None:
    found, _ = rows("".join(f"{'db-1  | ' if captured else ''}{line}\n" for line in lines).encode())
    stored = "\n".join(row[2] for row in found)
    told = "\n".join(value for row in found if row[3] for value in row[3].values())
    for line in lines:
        if line.strip() and line.strip() not in ("...", "…", "[...]"):
            assert line[-8:].rstrip() in stored or line[-8:].rstrip() in told
    assert all(-(2**63) <= row[0] < 2**63 for row in found)
