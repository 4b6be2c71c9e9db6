from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.collector.stage_support import READ, built, extracted, labels, made, stage

from atalaia.collector.stages.events import EventLogMessage, sanitised
from atalaia.collector.stages.output import Decolorize, Output, Pack
from atalaia.logql.extract import unpacked
from atalaia.logql.formatting import decolorized


def test_an_extracted_value_becomes_the_line() -> None:
    entries = made(["1", "2", "3"], s=["new", None, ""], all="same")
    assert Output("s")(entries).lines.to_pylist() == ["new", "2", ""]
    assert Output("all")(entries).lines.to_pylist() == ["same"] * 3
    assert Output("absent")(entries).lines.to_pylist() == ["1", "2", "3"]


# -- pack


def test_labels_are_packed_into_the_line() -> None:
    entries = made(['say "hi" <&>', "two\n\t\x01é"], {"job": "j", "pod": ["p", None]}, user=["u", "v"])
    packed = Pack(("pod", "user", "absent", "job"), ingest_timestamp=False)(entries)
    assert packed.lines.to_pylist() == [
        '{"job":"j","pod":"p","user":"u","_entry":"say \\"hi\\" \\u003c\\u0026\\u003e"}',
        '{"job":"j","user":"v","_entry":"two\\n\\t\\u0001é"}',
    ]
    assert labels(packed) == ["{}", "{}"]
    assert packed.ts.tolist() == [READ, READ + 1]


def test_what_was_not_extracted_stays_a_label() -> None:
    entries = made(["x", "y"], {"a": "1"}, a=["1", None])
    assert labels(Pack(("a",), False)(entries)) == ["{}", '{"a":"1"}']
    assert Pack((), False)(entries).lines.to_pylist() == ['{"_entry":"x"}', '{"_entry":"y"}']


def test_packed_entries_get_the_time_of_now_each_a_nanosecond_later() -> None:
    before = time.time_ns()
    first, second = Pack()(made(["x", "y"])).ts.tolist()
    assert before <= first <= time.time_ns()
    assert second == first + 1


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8) | st.none()), max_size=5))
def test_what_is_packed_unpacks(rows: list) -> None:
    rows = [(line.replace("\ud800", ""), value) for line, value in rows]
    packed = Pack(("a",), False)(made([line for line, _ in rows], a=[value for _, value in rows]))
    for (line, value), text in zip(rows, packed.lines.to_pylist(), strict=True):
        assert json.loads(text) == ({} if value is None else {"a": value}) | {"_entry": line}
        assert unpacked(text) == (line, {} if value is None else {"a": value})


# -- decolorize


def test_colours_are_taken_away() -> None:
    entries = made(["\x1b[31mred\x1b[0m", "plain", "\u009b1mbold é\x1b[0;1;2m", "\x1b[K"])
    assert Decolorize()(entries).lines.to_pylist() == ["red", "plain", "bold é", ""]


@given(st.lists(st.text(st.sampled_from("\x1b[]0;1mKx\x07\u009bé"), max_size=12), max_size=4))
def test_they_are_those_that_queries_take_away(texts: list[str]) -> None:
    assert Decolorize()(made(texts)).lines.to_pylist() == [decolorized(text) for text in texts]


# -- eventlogmessage

MESSAGE = "Key1: Value 1\r\nBad Name:v\r\nno sign\r\nKey1:again\r\n: nameless\r\n1st: x: y\r\nlevel:new"


def test_an_events_message_is_taken_apart() -> None:
    entries = EventLogMessage()(made(["x", "y", "z"], {"level": "old"}, message=[MESSAGE, "Key1:  b", None]))
    assert extracted(entries) == {
        "level": ["old"] * 3,
        "message": [MESSAGE, "Key1:  b", None],
        "Key1": ["Value 1", " b", None],
        "Bad_Name": ["v", None, None],
        "_": ["nameless", None, None],
        "_st": ["x: y", None, None],
    }


def test_values_may_be_overwritten_and_bad_names_dropped() -> None:
    found = EventLogMessage("text", drop_invalid_labels=True, overwrite_existing=True)
    assert extracted(found(made(["x", "y"], level="old", text=[MESSAGE, "level: 5"]))) == {
        "level": ["new", "5"],
        "text": [MESSAGE, "level: 5"],
        "Key1": ["again", None],
    }
    assert found.reads() is None


def test_names_are_made_labels() -> None:
    assert [sanitised(name) for name in ("", "a b", "1a", "é.x", "a1")] == ["_", "a_b", "_a", "__x", "a1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- output: {}", "the stage output: it needs 'source'"),
        ("- output: {target: x}", "output: 'target' is not known"),
        ("- pack: {labels: a}", "pack.labels is 'a', not a list"),
        ("- pack: {ingest_timestamp: x}", "pack.ingest_timestamp is 'x'"),
        ("- decolorize: {a: b}", "decolorize: 'a' is not known"),
        ("- eventlogmessage: {source: a b}", "the stage eventlogmessage: invalid label name: 'a b'"),
        ("- eventlogmessage: {source: ''}", "the stage eventlogmessage: invalid label name: ''"),
        ("- eventlogmessage: {overwrite_existing: 1}", "eventlogmessage.overwrite_existing is 1"),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    assert built(text)[1][0][1].startswith(message)


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("- output: {source: a}", {"a"}),
        ("- pack: {labels: [a, b]}", {"a", "b"}),
        ("- pack:", set()),
        ("- pack: {ingest_timestamp: false}", set()),
        ("- decolorize:", set()),
        ("- decolorize: {}", set()),
        ("- eventlogmessage: {}", None),
    ],
)
def test_they_are_built_from_yaml(text: str, reads: set[str] | None) -> None:
    assert stage(text).reads() == reads
