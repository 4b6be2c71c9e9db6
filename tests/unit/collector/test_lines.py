from __future__ import annotations

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.lines import cut_long, shorten, split, valid_utf8
from atalaia.collector.plan import translate

PIECES = st.lists(
    st.sampled_from([b"\n", b"\0", b"a", b"bc", "é".encode(), "🜁".encode(), b"\xff", b"\xe2\x82", b"\r", b"\xc0\x80"])
    | st.binary(max_size=3),
    max_size=20,
).map(b"".join)


@given(PIECES)
def test_any_bytes_become_valid_utf8_and_valid_ones_stay(block: bytes) -> None:
    text, replaced = valid_utf8(block)
    assert text.decode() == block.decode("utf-8", "replace")
    try:
        block.decode()
    except UnicodeDecodeError:
        assert replaced
    else:
        assert text is block
        assert not replaced


@given(PIECES)
def test_split_gives_the_lines(block: bytes) -> None:
    text, _ = valid_utf8(block + b"\n")
    lines = split(text)
    lines.validate(full=True)
    assert lines.to_pylist() == text.decode().split("\n")[:-1]


def test_nothing_has_no_lines() -> None:
    assert split(b"").to_pylist() == []
    assert split(b"\n\n").to_pylist() == ["", ""]


LINE = st.text(st.sampled_from("aé🜁 \0"), max_size=200)


@given(st.lists(LINE, max_size=5), st.integers(40, 150))
def test_exactly_the_long_lines_are_cut(lines: list[str], most: int) -> None:
    cut, count = cut_long(pa.array(lines, pa.utf8()), most)
    cut.validate(full=True)
    for before, after in zip(lines, cut.to_pylist(), strict=True):
        size = len(before.encode())
        if size <= most:
            assert after == before
        else:
            count -= 1
            head, mark, _ = after.partition(f" …[cut: {size} bytes]")
            assert mark
            assert before.startswith(head)
            # As much as fits: not even one more character.
            assert most - 4 < len(after.encode()) <= most
    assert count == 0


def test_a_bound_below_the_mark_leaves_the_mark() -> None:
    assert shorten(b"abcdef", 6, 3) == " …[cut: 6 bytes]"


def test_globs_match_as_doublestar_does() -> None:
    table = [
        ("/var/log/*log", "/var/log/syslog", True),
        ("/var/log/*log", "/var/log/a/syslog", False),
        ("/a/**/b", "/a/b", True),
        ("/a/**/b", "/a/x/y/b", True),
        ("/a/**/b", "/a/xb", False),
        ("/a/**", "/a/x/y", True),
        ("/a/?.log", "/a/x.log", True),
        ("/a/?.log", "/a//.log", False),
        ("/a/[!b].log", "/a/b.log", False),
        ("/a/[!b].log", "/a/c.log", True),
        ("/a/x+y.log", "/a/x+y.log", True),
        ("/a/x.log", "/a/xylog", False),
    ]
    for pattern, path, expected in table:
        assert bool(re.fullmatch(translate(pattern), path)) is expected, (pattern, path)
