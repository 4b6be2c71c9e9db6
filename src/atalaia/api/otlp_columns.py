"""OTLP's log records, as ptars reads them, into a table of entries, all records at once.

The mapping is Loki's: docs/clients.md has it in words.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.api.otlp_values import label_name, pairs_of, texts
from atalaia.store.batch import METADATA, MOST, SCHEMA, canonical
from atalaia.wire.bounds import MOST_ENTRIES, MOST_PAIRS, TooLarge, check_count

LABELS = (
    "service.name", "service.namespace", "service.instance.id", "deployment.environment",
    "deployment.environment.name", "cloud.region", "cloud.availability_zone", "k8s.cluster.name", "k8s.namespace.name",
    "k8s.pod.name", "k8s.container.name", "container.name", "k8s.replicaset.name", "k8s.deployment.name",
    "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name",
)  # fmt: skip
"""The resource attributes that become labels: Loki's default."""
_NAMING = ("container_name", "k8s_container_name", "k8s_job_name")
"""Labels that name the service of a resource that does not: those of Loki's list that can be here."""
_UNKNOWN = "unknown_service"
_NO_TIME = 2**63  # ns; from here on a time does not fit


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Metadata: the row it belongs to, a name and a value for each."""

    owner: np.ndarray
    names: pa.Array
    values: pa.Array

    @classmethod
    def of(cls, owners: Sequence[int], pairs: Sequence[tuple[str, str]]) -> _Pairs:
        """Pairs made one by one."""
        names = pa.array([name for name, _ in pairs], pa.utf8())
        return cls(np.array(owners, np.int64), names, pa.array([value for _, value in pairs], pa.utf8()))

    @classmethod
    def joined(cls, several: Iterable[_Pairs]) -> _Pairs:
        """Pairs by owner; an owner's in the order given, the first of a name alone, none without a name."""
        parts = [part for part in several if len(part.owner)]
        if not parts:
            return cls.of([], [])
        owner = np.concatenate([part.owner for part in parts])
        names = pa.concat_arrays([part.names for part in parts])
        codes = names.dictionary_encode()
        keys = owner * np.int64(len(codes.dictionary)) + codes.indices.to_numpy()
        order = np.argsort(keys, kind="stable")
        kept = np.ones(len(order), bool)
        kept[1:] = np.diff(keys[order]) != 0
        kept &= pc.not_equal(names, "").to_numpy(zero_copy_only=False)[order]
        first = np.sort(order[kept])
        rows = first[np.argsort(owner[first], kind="stable")]
        taken = pa.array(rows)
        return cls(owner[rows], names.take(taken), pa.concat_arrays([part.values for part in parts]).take(taken))

    def offsets(self, rows: int) -> np.ndarray:
        """Where each of `rows` owners' pairs begin, and the end."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.owner, minlength=rows))])

    def spread(self, owner_of: np.ndarray, owners: int) -> _Pairs:
        """The same pairs for each row of `owner_of`, which names their owner. Raises TooLarge."""
        starts = self.offsets(owners)
        counts = np.diff(starts)[owner_of]
        check_count("attributes", int(counts.sum()), MOST_PAIRS)
        rows = np.repeat(np.arange(len(owner_of)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        taken = pa.array(np.repeat(starts[:-1][owner_of], counts) + within)
        sizes = pc.add(pc.binary_length(self.names), pc.binary_length(self.values)).take(taken)
        if (pc.sum(sizes).as_py() or 0) > MOST:
            raise TooLarge(f"the attributes of the push's entries are more than {MOST} bytes: send smaller batches")
        return _Pairs(rows, self.names.take(taken), self.values.take(taken))


def table_of(batch: pa.RecordBatch) -> pa.Table:
    """The entries of an ExportLogsServiceRequest. Raises BatchError, or TooLarge when there are too many."""
    resources = batch.column("resource_logs").flatten()
    scopes = resources.field("scope_logs").flatten()
    records = scopes.field("log_records").flatten()
    check_count("entries", len(records), MOST_ENTRIES)
    scope_of = _parents(scopes.field("log_records"))
    resource_of = _parents(resources.field("scope_logs"))[scope_of]
    labels, described = _resources(resources.field("resource"))
    pairs = _Pairs.joined(
        [
            *_of_records(records),
            described.spread(resource_of, len(resources)),
            _of_scopes(scopes.field("scope")).spread(scope_of, len(scopes)),
        ]
    )
    stream = labels.take(pa.array(resource_of)).dictionary_encode()
    metadata = pa.MapArray.from_arrays(
        pa.array(pairs.offsets(len(records)), pa.int32()), pairs.names, pairs.values, METADATA
    )
    columns = [pa.array(_times(records)), stream, texts(records.field("body")).fill_null(""), metadata]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _parents(lists: pa.ListArray) -> np.ndarray:
    return np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), np.int64)


def _times(records: pa.StructArray) -> np.ndarray:
    """When it happened, else when it was seen, else now. ns; -1, which no store takes, for what does not fit."""
    happened = records.field("time_unix_nano").to_numpy()
    seen = records.field("observed_time_unix_nano").to_numpy()
    when = np.where(happened != 0, happened, np.where(seen != 0, seen, np.uint64(time.time_ns())))
    return np.where(when < _NO_TIME, when, 0).astype(np.int64) - (when >= _NO_TIME)


def _attributes(lists: pa.ListArray) -> list[_Pairs]:
    """Attributes as metadata, those in maps too. Null lists have none."""
    found = lists.flatten()
    if not len(found):
        return []
    owner = _parents(lists)
    keys = found.field("key").dictionary_encode()
    names = pa.array([label_name(key) for key in keys.dictionary.to_pylist()], pa.utf8())
    values = found.field("value")
    maps = pc.struct_field(values, "kvlist_value")
    if maps.null_count == len(maps):
        return [_Pairs(owner, names.take(keys.indices), texts(values).fill_null(""))]
    is_map = maps.is_valid().to_numpy(zero_copy_only=False)
    simple = pa.array(np.flatnonzero(~is_map))
    nested_owner: list[int] = []
    nested: list[tuple[str, str]] = []
    for at in np.flatnonzero(is_map).tolist():
        nested += pairs_of(maps[at].as_py(), names[keys.indices[at].as_py()].as_py())
        nested_owner += [int(owner[at])] * (len(nested) - len(nested_owner))
        check_count("attributes", len(nested), MOST_PAIRS // 8)
    plain = _Pairs(owner[~is_map], names.take(keys.indices).take(simple), texts(values.take(simple)).fill_null(""))
    return [plain, _Pairs.of(nested_owner, nested)]


def _resources(resources: pa.StructArray) -> tuple[pa.Array, _Pairs]:
    """Each resource's labels, as a store spells them, and its other attributes."""
    lists = pc.struct_field(resources, "attributes")
    labelled = lists.flatten().field("key") if len(lists) else pa.array([], pa.utf8())
    is_label = pc.is_in(labelled, pa.array(LABELS)).to_numpy(zero_copy_only=False)
    found: list[dict[str, str]] = [{} for _ in range(len(resources))]
    for pairs in _attributes(_only(lists, is_label)):
        for owner, name, value in zip(pairs.owner, pairs.names.to_pylist(), pairs.values.to_pylist(), strict=True):
            found[owner].setdefault(name, value)
    for labels in found:
        if not labels.get("service_name"):
            named = (value for name, value in labels.items() if name in _NAMING and value)
            labels["service_name"] = next(named, _UNKNOWN)
    texts_of = pa.array([canonical(labels) for labels in found], pa.utf8())
    return texts_of, _Pairs.joined(_attributes(_only(lists, ~is_label)))


def _only(lists: pa.ListArray, wanted: np.ndarray) -> pa.ListArray:
    """Lists with the wanted of their elements."""
    counts = np.bincount(_parents(lists)[wanted], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, lists.flatten().filter(pa.array(wanted)))


def _of_scopes(scopes: pa.StructArray) -> _Pairs:
    kinds = ("name", "version", "dropped_attributes_count")
    fields = [_field(pc.struct_field(scopes, name), f"scope_{name}") for name in kinds]
    return _Pairs.joined([*_attributes(pc.struct_field(scopes, "attributes")), *fields])


def _of_records(records: pa.StructArray) -> list[_Pairs]:
    happened = pc.not_equal(records.field("time_unix_nano"), pa.scalar(0, pa.uint64()))
    seen = records.field("observed_time_unix_nano")
    # Where the time is missing, this one is the entry's.
    observed = pc.if_else(happened, seen, pa.scalar(0, pa.uint64()))
    names = ("severity_number", "severity_text", "dropped_attributes_count", "flags", "event_name")
    return [
        *_attributes(records.field("attributes")),
        _field(observed, "observed_timestamp"),
        *(_field(records.field(name), name) for name in names),
        *(_id(records.field(name), name) for name in ("trace_id", "span_id")),
    ]


def _field(column: pa.Array, name: str) -> _Pairs:
    """A field of each row as metadata, where it is neither zero nor empty."""
    nothing = pa.scalar("" if pa.types.is_string(column.type) else 0, column.type)
    there = pc.fill_null(pc.not_equal(column, nothing), False).to_numpy(zero_copy_only=False)
    owner = np.flatnonzero(there)
    values = column.take(pa.array(owner)).cast(pa.utf8())
    return _Pairs(owner, pa.array([name], pa.utf8()).take(pa.array(np.zeros(len(owner), np.int64))), values)


def _id(column: pa.Array, name: str) -> _Pairs:
    """Ids as metadata in hexadecimal digits, where they are not of zeros."""
    sizes = pc.binary_length(column).to_numpy()
    owner = np.flatnonzero(sizes)
    size = int(sizes.max(initial=0))
    if not (sizes[owner] == size).all():
        return _field(pa.array([raw.hex() if any(raw) else "" for raw in column.to_pylist()], pa.utf8()), name)
    data = b"".join(column.filter(pa.array(sizes > 0)).to_pylist())
    digits = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(max(2 * size, 1)), len(owner), [None, pa.py_buffer(data.hex().encode())]
    )
    there = np.frombuffer(data, np.uint8).reshape(len(owner), size).any(axis=1)
    rows = owner[there]
    names = pa.array([name], pa.utf8()).take(pa.array(np.zeros(len(rows), np.int64)))
    return _Pairs(rows, names, digits.cast(pa.binary()).cast(pa.utf8()).filter(pa.array(there)))
