from __future__ import annotations

import pytest
from tests.unit.collector.stage_support import built, labels, made, stage

from atalaia.collector.stages.labels import LabelAllow, LabelDrop, Labels, StaticLabels, StructuredMetadata, Tenant
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.stage import Stage


def test_labels_come_from_extracted_values() -> None:
    entries = Regex(r"^(?P<level>\w+):(?P<n>\d)?")(made(["INFO:1", "nothing", "WARN:"], {"level": "old", "job": "j"}))
    entries = Labels({"level": None, "number": "n", "gone": "missing"})(entries)
    assert labels(entries) == [
        '{"job":"j","level":"INFO","number":"1"}',
        '{"job":"j","level":"old"}',
        '{"job":"j","level":"WARN"}',
    ]


def test_a_missing_value_leaves_the_label_of_a_column_or_of_all() -> None:
    entries = made(["a", "b", "c"], {"x": ["1", None, "3"], "y": "same"}, v=["new", None, None])
    entries = Labels({"x": "v", "y": "v", "z": "v"})(entries)
    assert labels(entries) == ['{"x":"new","y":"new","z":"new"}', '{"y":"same"}', '{"x":"3","y":"same"}']


def test_static_labels_replace() -> None:
    entries = StaticLabels({"a": "new", "b": "2"})(made(["x"], {"a": "old"}))
    assert entries.labels == {"a": "new", "b": "2"}
    assert entries.extracted == {"a": "old"}


def test_labels_are_dropped_or_allowed() -> None:
    entries = made(["x", "y"], {"a": "1", "b": ["2", None], "c": "3"})
    assert labels(LabelDrop(frozenset({"a", "none"}))(entries)) == ['{"b":"2","c":"3"}', '{"c":"3"}']
    assert labels(LabelAllow(frozenset({"b", "none"}))(entries)) == ['{"b":"2"}', "{}"]
    assert LabelDrop(frozenset({"a"}))(entries).extracted == entries.extracted


def test_metadata_is_added_and_labels_stay() -> None:
    entries = made(["x", "y"], {"job": "j"}, trace=["1", None], user="u")
    entries = StructuredMetadata({"trace": None, "who": "user", "job": None, "gone": None})(entries)
    assert entries.record_batch().column("metadata").to_pylist() == [
        [("trace", "1"), ("who", "u"), ("job", "j")],
        [("who", "u"), ("job", "j")],
    ]
    assert labels(entries) == ['{"job":"j"}'] * 2
    again = StructuredMetadata({"who": "trace"})(entries)
    assert again.record_batch().column("metadata").to_pylist()[1] == [("who", "u"), ("job", "j")]


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [
        (Tenant(value="v"), ["v", "v", "v"]),
        (Tenant(source="s"), ["1", None, None]),
        (Tenant(source="all"), ["a", "a", "a"]),
        (Tenant(source="none"), [None, None, None]),
        (Tenant(source="empty"), [None, None, None]),
        (Tenant(label="l"), ["2", None, "4"]),
        (Tenant(label="s"), [None, None, None]),
    ],
)
def test_tenants(tenant: Stage, expected: list[str | None]) -> None:
    given = {"s": ["1", "", None], "all": "a", "empty": ""}
    entries = tenant(made(["x", "y", "z"], {"l": ["2", None, "4"]}, **given))
    value = entries.labels.get("__tenant_id__")
    assert ([value] * 3 if value is None or isinstance(value, str) else value.to_pylist()) == expected
    before = tenant(made(["x", "y", "z"], {"__tenant_id__": "t", "l": ["2", None, "4"]}, **given))
    value = before.labels["__tenant_id__"]
    shown = [value] * 3 if isinstance(value, str) else value.to_pylist()
    assert shown == ["t" if one is None else one for one in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- labels:", "the stage labels: its config cannot be empty"),
        ("- labels: {a-b: }", "labels: 'a-b' is not a label name"),
        ("- labels: [a]", "labels is ['a'], not a mapping"),
        ("- static_labels:", "the stage static_labels: its config cannot be empty"),
        ("- structured_metadata:", "the stage structured_metadata: its config cannot be empty"),
        ("- structured_metadata: {'a b': }", "structured_metadata: 'a b' is not a label name"),
        ("- labeldrop: []", "the stage labeldrop: its config cannot be empty"),
        ("- labelallow: {a: b}", "labelallow is {'a': 'b'}, not a list"),
        ("- labelallow:", "the stage labelallow: its config cannot be empty"),
        ("- tenant: {}", "the stage tenant: label, source or value config are required"),
        ("- tenant: {source: a, value: b}", "the stage tenant: label, source and value are mutually exclusive"),
        ("- tenant: {field: a}", "tenant: 'field' is not known"),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    assert built("# one line\n" + text)[1][0][0] == 2
    assert built(text)[1][0][1].startswith(message)


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("- labels: {a: , b: c}", {"a", "c"}),
        ("- structured_metadata: {a: , b: c}", {"a", "c"}),
        ("- non_indexed_labels: {a: }", {"a"}),
        ("- static_labels: {a: 1, b: }", set()),
        ("- labeldrop: [a]", set()),
        ("- labelallow: [a]", set()),
        ("- tenant: {source: a}", {"a"}),
        ("- tenant: {label: a}", set()),
    ],
)
def test_they_are_built_from_yaml(text: str, reads: set[str]) -> None:
    found = stage(text)
    assert found.reads() == reads
    assert len(found(made(["x"], {"a": "1"}))) == 1
