"""Which series a sample belongs to: the keys that SQL groups by, and the labels that a key stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conditions import Inexpressible
from .entry import Entry
from .extract import PRESERVED
from .matrix import Labels, label_key
from .parsers import Parser
from .plan import Pipeline, by_stream
from .sqltext import literal
from .tree import Grouping, RangeAggregation


@dataclass(frozen=True, slots=True)
class Keys:
    """`columns`: SQL over entries. `labels`: a series' labels by values of the columns; several may have the same."""

    columns: tuple[str, ...]
    labels: Callable[[Sequence[Any]], Labels]


def grouping_of(tree: RangeAggregation, grouping: Grouping | None) -> Grouping:
    """By which labels the samples are grouped; all without a grouping. The label that is unwrapped becomes no label."""
    if grouping is not None and not grouping.without:
        return grouping
    hidden = (tree.unwrap.label,) if tree.unwrap else ()
    return Grouping(True, (*(grouping.labels if grouping else ()), *hidden))


def labels_of(entry: Entry, grouping: Grouping) -> Labels:
    """The labels of the series of an entry; an error that it still has is among them, with Loki's mark."""
    if entry.fault and grouping.without:
        entry.fault = {**entry.fault, PRESERVED: "true"}
    if grouping.without:
        entry.remove(grouping.labels)
        return label_key(entry.all())
    return label_key({name: value for name in grouping.labels if (value := entry.get(name)) is not None})


def keys_of(pipeline: Pipeline, grouping: Grouping) -> Keys:
    """How the entries of a pipeline are grouped. Raises Inexpressible."""
    streams = pipeline.streams.labels
    if grouping.without and pipeline.relabelled:
        if pipeline.only is None:
            raise Inexpressible("labels that are not known by name")
        names = sorted({*pipeline.only, *pipeline.changed}.difference(grouping.labels))
        return keys_of(pipeline, Grouping(False, tuple(names)))
    if grouping.without:
        return _keys_without(pipeline, Grouping(True, (*grouping.labels, *pipeline.dropped)))
    if not grouping.labels:
        return Keys(("0",), lambda _: label_key({}))
    if not pipeline.streams.many and all(map(pipeline.on_every_stream, grouping.labels)):
        column = _stream_key(pipeline, lambda labels: tuple(labels[name] for name in grouping.labels))
        return Keys((column,), lambda row: labels_of(Entry(0, "", streams[row[0]], {}), grouping))
    columns = tuple(pipeline.label(name) for name in grouping.labels)
    return Keys(
        columns, lambda row: label_key({n: v for n, v in zip(grouping.labels, row, strict=True) if v is not None})
    )


def _keys_without(pipeline: Pipeline, grouping: Grouping) -> Keys:
    names = frozenset(grouping.labels)
    streams = pipeline.streams.labels

    def kept(labels: Mapping[str, str]) -> object:
        return label_key({name: "" if name in names else value for name, value in labels.items()})

    metadata = "metadata"
    for name in names:
        if pipeline.stream_label(name) is None:
            # That there is one still counts: a parsed label of its name is called otherwise.
            entry = f"CASE WHEN e.key = {literal(name)} THEN {{'key': e.key, 'value': ''}} ELSE e END"
            metadata = f"map_from_entries(list_transform(map_entries({metadata}), lambda e: {entry}))"
    found = [column for parser in pipeline.parsers for column in _columns(pipeline, parser, names)]

    def labels(row: Sequence[Any]) -> Labels:
        entry = Entry(0, "", streams[row[0]], dict(row[1] or ()))
        at = iter(row[2:])
        for parser in pipeline.parsers:
            new = dict(next(at) or ()) if parser.labels is not None else {name: next(at) for name in parser.named}
            entry.parse({name: value for name, value in new.items() if value is not None})
            if parser.fills:
                entry.fill(parser.named)
        entry.fault = {}
        return labels_of(entry, grouping)

    return Keys((_stream_key(pipeline, kept), metadata, *found), labels)


def _stream_key(pipeline: Pipeline, kept: Callable[[Mapping[str, str]], object]) -> str:
    """SQL of a stream for which `kept` gives the same as for the entry's own."""
    if pipeline.streams.many:
        return "stream_id"
    groups: dict[object, list[int]] = {}
    for number, labels in pipeline.streams.labels.items():
        groups.setdefault(kept(labels), []).append(number)
    if len(groups) == 1:
        return str(next(iter(groups.values()))[0])
    if len(groups) == len(pipeline.streams.labels):
        return "stream_id"
    return by_stream({number: str(ids[0]) for ids in groups.values() for number in ids})


def _columns(pipeline: Pipeline, parser: Parser, names: frozenset[str]) -> list[str]:
    """A parser's labels as columns, those of the names left out where that changes no other label."""
    if parser.labels is None:
        return [
            f"CASE WHEN {pipeline.taken(name)} THEN {sql} END" if name in names else sql
            for name, sql in parser.named.items()
        ]
    whole = parser.labels
    for name in names:
        whole = f"CASE WHEN {pipeline.taken(name)} THEN {whole} ELSE {_without(whole, name)} END"
    return [whole]


def _without(labels: str, name: str) -> str:
    return f"map_from_entries(list_filter(map_entries({labels}), lambda e: e.key <> {literal(name)}))"
