"""Which objects a selection takes, of dumps that PostgreSQL 15, 16 and 18 wrote."""

from __future__ import annotations

import pytest

from atalaia.backup.model import Selection
from atalaia.backup.restoring.choice import choose, followers
from atalaia.backup.restoring.sources import without_meta
from atalaia.backup.restoring.toc import Entry, read, unquoted
from atalaia.environment.errors import AtalaiaError, InputError


def entry(number: int, kind: str, name: str, *depends: int, schema: str = "s", definition: str = "") -> Entry:
    return Entry(number, kind, schema, name, "postgres", definition, depends=depends)


ENTRIES = [
    entry(1, "SCHEMA", "s", schema=""),
    entry(2, "TYPE", "mood", 1),
    entry(3, "FUNCTION", "stamp()", 1),
    entry(4, "TABLE", "parent", 1),
    entry(5, "TABLE", "t", 1, 2),
    entry(6, "TABLE", "t x", 1),
    entry(7, "TABLE", "p", 1),
    entry(8, "TABLE", "p1", 7, 1),
    entry(9, "TABLE", "child", 4, definition="CREATE TABLE s.child (\n)\nINHERITS (s.parent);\n"),
    entry(10, "SEQUENCE", "t_id_seq", 5),
    entry(11, "SEQUENCE OWNED BY", "t_id_seq", 10),
    entry(12, "SEQUENCE", "tickets", 1),
    entry(13, "VIEW", "v", 5),
    entry(14, "TABLE ATTACH", "p1", 8, 7),
    entry(15, "DEFAULT", "t id", 5, 12),
    entry(16, "COMMENT", "TABLE t", 5),
    entry(17, "COMMENT", "TABLE t x", 6),
    entry(18, "ACL", "SCHEMA s", 1, schema=""),
    entry(19, "CONSTRAINT", "t t_pkey", 5, definition="ALTER TABLE ONLY s.t\n    ADD PRIMARY KEY (id);"),
    entry(20, "INDEX", "p_i", 7),
    entry(21, "INDEX", "p1_i", 20, 8),
    entry(22, "INDEX ATTACH", "p1_i", 21, 20, 8, 7),
    entry(23, "TRIGGER", "t stamp", 5, 3),
    entry(24, "FK CONSTRAINT", "t x fk", 6, 5, 19,
          definition='ALTER TABLE ONLY s."t x"\n    ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES s.t(id);'),
    entry(25, "POLICY", "t mine", 5, 6),
    entry(26, "TABLE DATA", "t", 5),
]  # fmt: skip


def taken(selection: Selection) -> tuple[set[int], set[int], set[int]]:
    choice = choose(ENTRIES, selection)
    return tuple({e.number for e in part} for part in (choice.relations, choice.parts, choice.needed))  # type: ignore[return-value]  # three of them


def test_a_table_takes_what_belongs_to_it_and_what_it_needs() -> None:
    relations, parts, needed = taken(Selection(tables=("s.t",)))
    assert relations == {5}
    assert parts == {10, 15, 19, 23, 25}
    assert needed == {1, 2, 3, 12}
    choice = choose(ENTRIES, Selection(tables=("s.t",)))
    assert [e.number for e in choice.pointing] == [24]
    # The schema was there: its grants are left as they are.
    assert {e.number for e in followers(ENTRIES, relations | parts | {2, 3, 12})} == {11, 16}


def test_a_foreign_key_to_a_table_that_is_not_taken_is_told() -> None:
    choice = choose(ENTRIES, Selection(tables=("s.t x",)))
    assert [e.number for e in choice.parts] == [24]
    assert [(key.number, table.number) for key, table in choice.outward] == [(24, 5)]
    assert 5 not in {e.number for e in choice.needed}


def test_partitions_and_children_come_along_but_not_their_parents() -> None:
    assert taken(Selection(tables=("s.p",)))[:2] == ({7, 8}, {20, 21})
    assert {e.number for e in followers(ENTRIES, {7, 8, 20, 21})} == {14, 22}
    # One partition is a table like others.
    assert taken(Selection(tables=("s.p1",))) == ({8}, {21}, {1})
    assert followers(ENTRIES, {8, 21}) == []
    assert taken(Selection(tables=("s.parent",)))[0] == {4, 9}
    # What inherits cannot be made without its parent, which comes without rows.
    assert taken(Selection(tables=("s.child",))) == ({9}, set(), {1, 4})


def test_a_schema_takes_all_of_it() -> None:
    relations, _, needed = taken(Selection(schemas=("s",)))
    assert relations == {4, 5, 6, 7, 8, 9, 10, 12, 13}
    assert needed == {1, 2, 3}


@pytest.mark.parametrize("selection", [Selection(tables=("s.nothing",)), Selection(schemas=("nothing",))])
def test_what_is_not_there_is_told_with_what_there_is(selection: Selection) -> None:
    with pytest.raises(InputError, match="nothing") as error:
        choose(ENTRIES, selection)
    assert "s" in error.value.remedy


def test_names() -> None:
    assert unquoted('"a ""b"""') == 'a "b"'
    assert unquoted("plain") == "plain"
    assert entry(1, "X", "y", definition='ALTER TABLE ONLY "S x"."T.""1"\n ADD').altered == ("S x", 'T."1')
    assert entry(1, "X", "y", definition="CREATE INDEX i ON s.t").altered is None


def test_only_the_lines_that_psql_alone_knows_are_taken_out() -> None:
    body = "\n".join(f"line {i}" for i in range(60))
    inside = "CREATE FUNCTION f() AS '\n" + "x\n" * 30 + "\\restrict inside\n" + "x\n" * 30 + "';"
    text = f"--\n\\restrict abc\n\n{body}\n{inside}\n\n\\unrestrict abc\n"
    assert without_meta(text) == f"--\n\n\n{body}\n{inside}\n\n\n"


@pytest.mark.parametrize(
    "data", [b"", b"PGDMP", b"PGDMP\x01\x0f\x00\x04\x08\x05\x01", b"PGDMP\x01\x63\x00\x04\x08\x05"]
)
def test_what_is_no_table_of_contents_is_told(data: bytes) -> None:
    with pytest.raises(AtalaiaError, match="somewhere"):
        read(data, "somewhere")
