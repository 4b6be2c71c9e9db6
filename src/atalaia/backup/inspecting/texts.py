"""Inspects a text dump, and gives its repaired text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from atalaia.backup.inspecting import judge, repair
from atalaia.backup.inspecting.findings import Contents, Effect, Finding, Table, listed
from atalaia.backup.inspecting.normal import Ends, Normaliser, Recipe
from atalaia.backup.inspecting.source import Source
from atalaia.backup.inspecting.survey import Edit
from atalaia.backup.inspecting.text import Ending, TextReader
from atalaia.backup.model import Progress


@dataclass(frozen=True, slots=True)
class Text:
    """A text dump that was read to its end."""

    source: Source
    recipe: Recipe
    normal: Normaliser
    reader: TextReader
    ending: Ending
    broken: str

    def findings(self) -> list[Finding]:
        """What is wrong with it, and worth knowing."""
        survey = self.reader.survey
        return [
            *judge.of_lines(self.normal, self.recipe, self.reader),
            *judge.of_strays(self.reader),
            *judge.of_ending(self.reader, self.ending, self.broken),
            *of_encoding(self.reader),
            *judge.of_statements(survey, "text"),
            *of_roles(self.reader),
        ]

    def edits(self) -> list[Edit]:
        """What a repaired copy has changed, besides line ends and stray lines."""
        return repair.statement_edits(self.reader.survey, self.ending)

    def repaired(self, progress: Progress | None = None) -> Iterator[bytes]:
        """The text of the repaired copy."""
        blocks = normalised(self.source, Normaliser(self.recipe), progress)
        return repair.edited(repair.edited(blocks, repair.cuts(self.reader)), self.edits())


def normalised(source: Source, normaliser: Normaliser, progress: Progress | None) -> Iterator[bytes]:
    """A source's text with LF line ends."""
    for block in source.blocks(progress):
        yield normaliser.feed(block)
    yield normaliser.finish()


def inspect_text(source: Source, progress: Progress) -> Text:
    """Read a text dump. Again, when it is only known at its end how it should have been read."""
    text = _read(source, Recipe(), progress)
    recipe = text.recipe
    if text.normal.page:
        recipe = replace(recipe, page=text.normal.page)
    if text.reader.survey.carriage and not text.normal.stripping:
        recipe = replace(recipe, ends=Ends.ALWAYS)
    return text if recipe == text.recipe else _read(source, recipe, progress)


def _read(source: Source, recipe: Recipe, progress: Progress) -> Text:
    normaliser = Normaliser(recipe)
    reader = read(normalised(source, normaliser, progress))
    return Text(source, recipe, normaliser, reader, reader.finish(), source.broken)


def read(blocks: Iterable[bytes]) -> TextReader:
    """A reader that has taken in all blocks and waits for `finish`."""
    reader = TextReader()
    for block in blocks:
        if block:
            reader.feed(block)
    return reader


def contents(reader: TextReader) -> Contents:
    """What is in a text."""
    survey = reader.survey
    tables = [Table(database, name, rows, size) for (database, name), (rows, size) in survey.tables.items()]
    tables.sort(key=lambda table: (-table.size, table.database, table.name))
    return Contents(tuple(survey.databases), tuple(survey.roles), tuple(tables), survey.large_objects)


def of_encoding(reader: TextReader) -> list[Finding]:
    """Bytes that are not of the encoding that the dump says it is in."""
    if not reader.bad or not reader.survey.encodings <= {"UTF8"}:
        return []
    where = f" (in or behind the table {reader.bad_table})" if reader.bad_table else ""
    return [
        Finding(
            "not-utf-8",
            Effect.PARTIAL,
            f"line {reader.bad}{where} is not UTF-8, as the dump says it is",
            "psql stops there; if an editor saved it as LATIN1, `iconv -f LATIN1 -t UTF-8` turns it back",
        )
    ]


def of_roles(reader: TextReader) -> list[Finding]:
    """Roles that it needs and does not make."""
    survey = reader.survey
    lacking = sorted(set(survey.wanted_roles) - set(survey.roles) - {"PUBLIC", "postgres", "CURRENT_USER"})
    lacking = [name for name in lacking if not name.startswith("pg_")]
    if not lacking:
        return []
    return [
        Finding(
            "roles",
            Effect.NOTE,
            f"it needs roles that it does not hold: {listed(lacking)}",
            "make them first, with `createuser`, or from `pg_dumpall --globals-only`",
        )
    ]
