"""The stage that reads the files of Docker's json-file driver: docker."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from atalaia.collector.entries import Entries
from atalaia.collector.stages.json import Json
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.stage import Build, Stage
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.yamlfile import Node, Reader

_KEYS = {"output": "log", "stream": "stream", "timestamp": "time"}
_SCHEMA = pa.schema([(key, pa.utf8()) for key in _KEYS.values()])


@dataclass(slots=True)
class Docker:
    """`docker`: `{"log": …, "stream": …, "time": …}`.

    They are extracted as `output`, `stream` and `timestamp`, and become the line, a label and the time. As in Promtail
    the line keeps the newline that Docker writes at its end, and a long line that Docker cut into several stays so.
    """

    _json: Json = field(init=False, default_factory=lambda: Json(_KEYS))
    _labels: Labels = field(init=False, default_factory=lambda: Labels({"stream": None}))
    _time: Timestamp = field(init=False, default_factory=lambda: Timestamp("timestamp", "RFC3339Nano"))
    name: ClassVar[str] = "docker"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        reader.mapping(node, "docker", set())
        return cls()

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(_KEYS)

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        entries = entries.with_extracted(entries.labels)
        table = _read(entries.lines)
        if table is None:
            entries = self._json(entries)
        else:
            found = {name: table.column(key).chunk(0) for name, key in _KEYS.items()}
            entries = replace(entries, extracted={**entries.extracted, **found})
        entries = self._time(self._labels(entries))
        output = entries.source("output")
        return replace(entries, lines=pc.coalesce(output, entries.lines) if output.null_count else output)


def _read(lines: pa.Array) -> pa.Table | None:
    """A row a line by Arrow's reader, which is fast; None when there is a line that it may read otherwise than Go."""
    # It ends the process at a `null` outside of an object (seen in 26.0.1) and takes two objects in one line.
    shaped = pc.and_(pc.starts_with(lines, "{"), pc.ends_with(lines, "}"))
    if not pc.all(shaped).as_py() or pc.any(pc.match_substring_regex(lines, r"\}\s*null|\n")).as_py():
        return None
    block = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "\n")[0].as_buffer()
    read = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    parse = pj.ParseOptions(explicit_schema=_SCHEMA, newlines_in_values=False, unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(io.BytesIO(block), read_options=read, parse_options=parse).combine_chunks()
    except pa.ArrowInvalid:
        return None
    return table if len(table) == len(lines) else None
