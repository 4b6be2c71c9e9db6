"""Stages of labels and metadata: labels, static_labels, labeldrop, labelallow, structured_metadata, tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue, column
from atalaia.collector.promtail.values import labels_from
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.environment.yamlfile import Node, Reader

TENANT = "__tenant_id__"
"""The label by which a tenant stage tells an output whose entry it is."""


def _chosen(
    names: Mapping[str, str | None], entries: Entries, before: Mapping[str, LabelValue]
) -> dict[str, LabelValue]:
    """Extracted values under the names, with those before where there is none."""
    found: dict[str, LabelValue] = {}
    for name, source in names.items():
        value = entries.extracted.get(source or name)
        if value is None:
            continue
        old = before.get(name)
        if old is not None and isinstance(value, pa.Array) and value.null_count:
            value = pc.coalesce(value, column(old, len(entries)))
        found[name] = value
    return found


def _mapped(reader: Reader, node: Node, stage: str) -> dict[str, str | None]:
    if node.value is None:
        raise StageError("its config cannot be empty")
    return labels_from(reader, node, stage)


@dataclass(frozen=True, slots=True)
class Labels:
    """`labels`: extracted values become labels, under their own or another name; a missing one changes nothing."""

    names: Mapping[str, str | None]
    name: ClassVar[str] = "labels"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls(_mapped(reader, node, "labels"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(source or label for label, source in self.names.items())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return entries.with_labels(_chosen(self.names, entries, entries.labels))


@dataclass(frozen=True, slots=True)
class StructuredMetadata:
    """`structured_metadata`: extracted values become metadata; labels of the same name stay."""

    names: Mapping[str, str | None]
    name: ClassVar[str] = "structured_metadata"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls(_mapped(reader, node, "structured_metadata"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(source or label for label, source in self.names.items())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        found = _chosen(self.names, entries, entries.metadata)
        return replace(entries, metadata={**entries.metadata, **found})


@dataclass(frozen=True, slots=True)
class StaticLabels:
    """`static_labels`: the same labels for every entry; those without a value are left out."""

    values: Mapping[str, str]
    name: ClassVar[str] = "static_labels"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls({name: value for name, value in _mapped(reader, node, "static_labels").items() if value})

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return entries.with_labels(self.values)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some labels stay, others are taken away. What was extracted stays."""

    names: frozenset[str]
    name: ClassVar[str]

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        found = [reader.text(one, cls.name) for one in reader.sequence(node, cls.name)]
        if not found:
            raise StageError("its config cannot be empty: list the names of labels")
        return cls(frozenset(name for name in found if name))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return replace(entries, labels={n: v for n, v in entries.labels.items() if self._stays(n)})

    def _stays(self, label: str) -> bool:
        raise NotImplementedError


class LabelDrop(_Chosen):
    """`labeldrop`: these labels are taken away."""

    __slots__ = ()
    name: ClassVar[str] = "labeldrop"

    def _stays(self, label: str) -> bool:
        return label not in self.names


class LabelAllow(_Chosen):
    """`labelallow`: all labels but these are taken away."""

    __slots__ = ()
    name: ClassVar[str] = "labelallow"

    def _stays(self, label: str) -> bool:
        return label in self.names


@dataclass(frozen=True, slots=True)
class Tenant:
    """`tenant`: whose entry it is: an extracted value (`source`), a label's value, or always the same `value`.

    Where there is none, or an empty one, the tenant stays.
    """

    source: str = ""
    label: str = ""
    value: str = ""
    name: ClassVar[str] = "tenant"

    def __post_init__(self) -> None:
        given = sum(map(bool, (self.source, self.label, self.value)))
        if not given:
            raise StageError("label, source or value config are required")
        if given > 1:
            raise StageError("label, source and value are mutually exclusive: set one of them")

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "tenant", {"source", "label", "value"})
        source, label, value = (
            reader.text(body.get(key), f"tenant.{key}") or "" for key in ("source", "label", "value")
        )
        return cls(source, label, value)

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        value: LabelValue | None = self.value
        if not self.value:
            value = entries.extracted.get(self.source) if self.source else entries.labels.get(self.label)
        if value is None or isinstance(value, str):
            return entries.with_labels({TENANT: value}) if value else entries
        filled = pc.if_else(pc.equal(value, ""), None, value)
        before = entries.labels.get(TENANT)
        if before is not None:
            filled = pc.coalesce(filled, column(before, len(entries)))
        return entries.with_labels({TENANT: filled})
