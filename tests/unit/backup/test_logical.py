from __future__ import annotations

from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from atalaia.backup.logical.partial import absent_schemas, hanging, listing, options, selected
from atalaia.backup.logical.streams import END, Blocks, Stream
from atalaia.backup.logical.toc import Toc, full_name, parse
from atalaia.backup.programs import conninfo
from atalaia.backup.restoring.toc import Entry
from atalaia.backup.vault.chunks import SIZE
from atalaia.backup.vault.place import Damaged
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError, InputError


class Collected:
    def __init__(self) -> None:
        self.data = bytearray()
        self.sizes: list[int] = []
        self.facts: dict[str, Any] = {}

    def write(self, block: memoryview) -> None:
        self.data += block
        self.sizes.append(len(block))

    def close(self, facts: dict[str, Any]) -> None:
        self.facts = facts


@given(st.lists(st.binary(max_size=200), max_size=30), st.integers(0, 3))
def test_a_stream_passes_on_every_byte_and_counts_rows(parts: list[bytes], chunks: int) -> None:
    parts = [*parts, b"x\n" * (chunks * SIZE // 4), END]
    whole = b"".join(parts)
    output = Collected()
    stream = Stream(output, Blocks())
    for part in parts:
        stream.write(part)
    text = stream.finish("1.dat")
    assert bytes(output.data) == whole
    assert all(size == SIZE for size in output.sizes[:-1])
    assert text.rows == whole.removesuffix(END).count(b"\n")
    assert text.size == len(whole) - len(END)
    assert text.digest == xxhash.xxh3_128(whole).hexdigest()
    assert output.facts == {"rows": text.rows, "bytes": text.size, "xxh3": text.digest}


@pytest.mark.parametrize("cut", range(1, len(END) + 1))
def test_rows_that_do_not_end_as_pg_dump_ends_them_are_refused(cut: int) -> None:
    stream = Stream(Collected(), Blocks())
    stream.write((b"1\n" + END)[:-cut])
    with pytest.raises(AtalaiaError, match="cut off"):
        stream.finish("1.dat")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_a_database_is_one_parameter(name: str) -> None:
    assert conninfo_to_dict(conninfo(name)) == {"dbname": name}


def entry(number: int, kind: str, schema: str, name: str, definition: str = "", file: str = "") -> Entry:
    return Entry(number, kind, schema, name, "postgres", definition, file=file)


def test_foreign_keys_to_what_is_not_in_a_dump_are_found() -> None:
    def key(number: int, target: str) -> Entry:
        return entry(
            number, "FK CONSTRAINT", "a", "t k", f"ALTER TABLE ONLY a.t ADD FOREIGN KEY (x) REFERENCES {target};"
        )

    contents = Toc(
        (
            entry(1, "TABLE", "a", "t", "CREATE TABLE a.t (x int);"),
            entry(2, "TABLE DATA", "a", "t", file="2.dat"),
            entry(3, "TABLE", "a", 'Odd "x"', "CREATE TABLE …;"),
            entry(4, "TABLE", "a", "parted", "CREATE TABLE a.parted (x int)\nPARTITION BY RANGE (x);"),
            key(5, "a.t(x)"),
            key(6, "b.away(x)"),
            key(7, 'a."Odd ""x"""(x)'),
            key(8, "a.parted(x) ON DELETE CASCADE"),
        )
    )
    assert [one.number for one in hanging(contents)] == [6, 7]
    assert listing(hanging(contents)) == "6; 0 0 FK CONSTRAINT\n7; 0 0 FK CONSTRAINT\n"
    assert absent_schemas(contents) == ["a"]


def test_databases_are_selected_by_names_and_patterns() -> None:
    names = ("template1", "postgres", "shop", "shop_old", "Shop")
    assert selected(names, BackupsSettings()) == names
    assert selected(names, BackupsSettings(databases=("shop*",))) == ("shop", "shop_old")
    left = BackupsSettings(databases=("shop*",), exclude_databases=("*_old",))
    assert selected(names, left) == ("shop",)
    with pytest.raises(InputError, match="there is no database 'sho'"):
        selected(names, BackupsSettings(databases=("sho",)))
    with pytest.raises(InputError, match="leaves no database"):
        selected(names, BackupsSettings(exclude_databases=("*",)))


def test_options_of_a_selection() -> None:
    assert options(BackupsSettings()) == ()
    assert options(BackupsSettings(exclude_data=("log.*",))) == ("--exclude-table-data=log.*",)
    # Single tables may have columns of an extension's type.
    assert options(BackupsSettings(tables=("a.b",))) == ("--table=a.b", "--extension=*")


@pytest.mark.parametrize("data", [b"", b"PGDMP", b"PGDMP\x01\x63\x00\x04\x08\x03", b"not a dump at all"])
def test_what_is_no_table_of_contents_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        parse(data)


def test_names_that_are_not_utf8_can_be_shown() -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    assert full_name(entry(1, "TABLE", "s", odd)) == "s.caf�"
