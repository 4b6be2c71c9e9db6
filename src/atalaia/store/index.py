"""Gives a segment its template column, in a new file beside it; the catalogue then takes the one for the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.store.segment import Segment, write_groups
from atalaia.store.templates import MOST, MOST_TEXT, templates

SUFFIX = "-t"


class _TooMany(Exception):
    """The segment has more templates than an index is good for."""


def indexed(found: Segment, folder: Path) -> Segment:
    """The segment with templates, written below `folder`; the same one with an empty index when it has too many.

    Raises OSError and what pyarrow raises for a damaged file.
    """
    letters: dict[str, set[str]] = {}
    path = folder / found.name
    name = f"{path.stem}{SUFFIX}.parquet"
    with pq.ParquetFile(path, read_dictionary=["labels"]) as file:
        groups = (file.read_row_group(number) for number in range(file.num_row_groups))
        schema = file.schema_arrow.insert(5, pa.field("template", pa.dictionary(pa.int32(), pa.utf8())))
        try:
            size, crc = write_groups(_with_templates(groups, letters), schema, folder / name)
        except _TooMany:
            return replace(found, templates={})
    texts = {template: "".join(sorted(held)) for template, held in letters.items()}
    return replace(found, name=name, size=size, crc32=crc, templates=texts)


def _with_templates(groups: Iterator[pa.Table], letters: dict[str, set[str]]) -> Iterator[pa.Table]:
    for group in groups:
        made = templates(group.column("line").combine_chunks())
        for template, held in made.letters.items():
            letters.setdefault(template, set()).update(held)
        if len(letters) > MOST or sum(map(len, letters)) > MOST_TEXT:
            raise _TooMany
        yield group.add_column(5, "template", made.column)
