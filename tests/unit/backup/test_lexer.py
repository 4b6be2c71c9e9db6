from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.backup.plain.lexer import Kind, Lexer, Piece


def pieces(text: bytes, size: int = 1 << 20) -> list[Piece]:
    lexer = Lexer()
    return [piece for start in range(0, len(text), size) for piece in lexer.feed(text[start : start + size])]


def test_rows_are_counted_and_their_statement_kept() -> None:
    text = b'COPY public."a;b" (x) FROM stdin;\n1\n\\\\.\n\\N\n\\.\n\nSELECT 1;\n'
    rows, statement = pieces(text)
    assert (rows.kind, rows.text, rows.rows) == (Kind.ROWS, b'COPY public."a;b" (x) FROM stdin;', 3)
    assert rows.end == text.index(b"\nSELECT")
    assert statement.text == b"SELECT 1;"


def test_an_empty_table_and_empty_rows() -> None:
    assert pieces(b"COPY a (b) FROM stdin;\n\\.\n")[0].rows == 0
    assert pieces(b"COPY a  FROM stdin;\n\n\n\n\\.\n")[0].rows == 3


def test_quotes_hide_everything() -> None:
    trap = b"COPY t (a) FROM stdin;\n1\n\\.\n-- Name: x\n\\connect y\n;"
    for quoted in (
        b"'" + trap + b"'",
        b"$$" + trap + b"$$",
        b"$_a1$ $$ ' " + trap + b"$_a1$",
        b'"' + trap + b'"',
        b"E'\\'" + trap + b"\\\\'",
        b"E'a''" + trap + b"'''\\''",
        b"/* " + trap + b" */",
    ):
        text = b"SELECT " + quoted + b" AS x;\n"
        assert [piece.text for piece in pieces(text)] == [text[:-1]]


def test_a_letter_e_that_ends_a_name_does_not_escape() -> None:
    assert [p.text for p in pieces(b"SELECT nice'\\';\nSELECT 2;\n")] == [b"SELECT nice'\\';", b"SELECT 2;"]


def test_comments_and_commands_stand_alone() -> None:
    text = b"-- one\n\n\\connect -reuse-previous=on \"dbname='x y'\"\nSELECT 1; -- after\n"
    assert [(p.kind, p.text) for p in pieces(text)] == [
        (Kind.COMMENT, b"-- one"),
        (Kind.COMMAND, b"\\connect -reuse-previous=on \"dbname='x y'\""),
        (Kind.STATEMENT, b"SELECT 1;"),
        (Kind.COMMENT, b"-- after"),
    ]


def test_at_rest_only_when_nothing_is_open() -> None:
    for text, rest in ((b"SELECT 1;\n", True), (b"SELECT 'a;\n", False), (b"COPY a (b) FROM stdin;\n1\n", False)):
        lexer = Lexer()
        lexer.feed(text)
        assert lexer.at_rest is rest


_VALUE = st.binary(max_size=40).map(lambda b: b.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r"))
_COPY = st.lists(_VALUE, max_size=6).map(
    lambda rows: (b"COPY s.t (a) FROM stdin;\n" + b"".join(r + b"\n" for r in rows) + b"\\.\n", len(rows))
)
_QUOTED = st.text("ab;'$\"\\-\n", max_size=12).map(lambda t: b"'" + t.replace("'", "''").encode() + b"'")
_STATEMENT = _QUOTED.map(lambda q: (b"COMMENT ON x IS " + q + b";\n", -1))
_DOLLAR = st.text("ab;'\"\\-\n", max_size=12).map(lambda t: (b"DO $q1$" + t.encode() + b"$q1$;\n", -1))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(_COPY, _STATEMENT, _DOLLAR), max_size=6), st.integers(1, 200))
def test_block_size_changes_nothing(parts: list[tuple[bytes, int]], size: int) -> None:
    text = b"".join(part for part, _ in parts)
    whole = pieces(text)
    assert pieces(text, size) == whole
    assert [piece.rows if piece.kind is Kind.ROWS else -1 for piece in whole] == [rows for _, rows in parts]


_VALUES = st.lists(
    st.one_of(_QUOTED, st.sampled_from([b"1", b"NULL", b"-1.5e3", b"B'01'", b"E'\\'x'"])), min_size=1, max_size=3
)
_INSERT = st.tuples(
    st.sampled_from([b"t", b'public."odd ""t"', b"s.t (a, b)"]), st.lists(_VALUES, min_size=1, max_size=3)
).map(
    lambda one: (
        b"INSERT INTO " + one[0] + b" VALUES " + b",\n\t".join(b"(" + b", ".join(v) + b")" for v in one[1]) + b";\n",
        len(one[1]),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(_INSERT, _INSERT, _INSERT, _STATEMENT), max_size=8), st.integers(1, 400))
def test_runs_of_inserts_are_the_same_text_as_their_statements(parts: list[tuple[bytes, int]], size: int) -> None:
    text = b"".join(part for part, _ in parts)
    lexer = Lexer(inserts=True)
    found = [piece for start in range(0, len(text), size) for piece in lexer.feed(text[start : start + size])]
    assert lexer.at_rest
    assert b"".join(text[piece.start : piece.end].rstrip(b"\n") for piece in found).replace(b"\n", b"") == text.replace(
        b"\n", b""
    )
    for piece in found:
        if piece.kind is Kind.ROWS:
            inside = pieces(text[piece.start : piece.end])
            assert all(one.text.startswith(piece.text) for one in inside)
            rows = sum(
                rows for part, rows in parts if text.find(part) >= 0 and part[:-1] in [one.text for one in inside]
            )
            assert piece.rows >= len(inside)
            assert piece.rows <= max(rows, 1) * len(inside)
