from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.backup.inspecting.normal import PAGES, Ends, Normaliser, Recipe

SEEN = Recipe()


def normalised(data: bytes, size: int, recipe: Recipe = SEEN) -> tuple[bytes, Normaliser]:
    normaliser = Normaliser(recipe)
    parts = [normaliser.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*parts, normaliser.finish()]), normaliser


_LINES = st.lists(st.text("ab-\r\n'é☕", max_size=20).map(str.encode), min_size=1, max_size=20)


def _dump(lines: list[bytes]) -> bytes:
    return b"--\n-- PostgreSQL database dump\n" + b"\n".join(lines) + b"\n"


@settings(max_examples=300, deadline=None)
@given(_LINES, st.integers(1, 60))
def test_what_a_terminal_does_is_undone_exactly_also_where_crlf_was_data(lines: list[bytes], size: int) -> None:
    text = _dump(lines)
    damaged = text.replace(b"\n", b"\r\n")
    back, normaliser = normalised(damaged, size)
    assert back == text
    assert normaliser.stripped == text.count(b"\n")
    assert normaliser.doubled == text.count(b"\r\n")
    assert normaliser.bare == 0


@settings(max_examples=200, deadline=None)
@given(_LINES, st.integers(1, 60))
def test_a_text_with_lf_passes_untouched(lines: list[bytes], size: int) -> None:
    text = _dump(lines)
    assert normalised(text, size)[0] == text


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=200), st.integers(1, 60))
def test_utf_16_becomes_utf_8(text: str, size: int) -> None:
    dump = "--\n" + text + "\n"
    windows = dump.replace("\n", "\r\n")
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        data = windows.encode(encoding)
        assert normalised(data, size)[0].decode() == dump, encoding


def test_a_byte_order_mark_goes() -> None:
    for size in (1, 2, 3, 100):
        text, normaliser = normalised(b"\xef\xbb\xbf--\r\n-- a\r\n", size)
        assert text == b"--\n-- a\n"
        assert normaliser.mark == "UTF-8 with a byte order mark"
    assert normalised(b"a", 1)[0] == b"a"
    assert normalised(b"\r\n", 1)[0] == b"\n"


@pytest.mark.parametrize("page", ["cp850", "cp437"])
def test_letters_that_a_console_misread_are_turned_back(page: str) -> None:
    text = "--\n-- São Tomé, Łódź, 東京, ½ ☕\n" * 3
    console = text.encode().decode(page)
    for size in (1, 7, 1000):
        _, first = normalised(console.encode("utf-16"), size)
        assert first.page in PAGES
        back, _ = normalised(console.encode("utf-16"), size, Recipe(page=first.page))
        assert back.decode() == text


def test_letters_that_were_read_rightly_stay() -> None:
    _, normaliser = normalised("--\n-- São Tomé ☕\n".encode("utf-16"), 10)
    assert normaliser.page == ""
    assert normaliser.foreign


def test_mixed_line_ends_are_counted() -> None:
    text, normaliser = normalised(b"--\r\na\nb\r\n", 4)
    assert (text, normaliser.stripped, normaliser.bare) == (b"--\na\nb\n", 2, 1)
    assert normalised(b"--\na\r\nb\r\n", 4)[0] == b"--\na\r\nb\r\n"
    assert normalised(b"--\na\r\nb\r\n", 4, Recipe(ends=Ends.ALWAYS))[0] == b"--\na\nb\n"
