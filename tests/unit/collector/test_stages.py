from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
import pyarrow as pa
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.collector.entries import Entries
from atalaia.collector.stages.labels import Labels, StaticLabels, Timestamp
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.stage import StageError
from atalaia.collector.stages.text import Json, Regex, json_path

READ = 10**18


def made(lines: Sequence[str], labels: Mapping[str, object] | None = None) -> Entries:
    return Entries(pa.array(lines, pa.utf8()), READ + np.arange(len(lines)), labels or {})  # type: ignore[arg-type]


def extracted(entries: Entries) -> dict[str, list[str | None]]:
    return {name: entries.source(name).to_pylist() for name in entries.extracted}


# -- regex


@pytest.mark.parametrize(
    ("expression", "lines", "expected"),
    [
        (r"(?P<a>\d+)", ["x 12 y 34", "none"], {"a": ["12", None]}),
        (r"^(?P<a>\w+) (?P<b>\w+)$", ["one two", "one two three"], {"a": ["one", None], "b": ["two", None]}),
        (r"(x|y)(?P<a>\d)(z)?", ["y1", "x2z"], {"a": ["1", "2"]}),
        (r"(?P<a>x)?(?P<b>y)", ["y"], {"a": [""], "b": ["y"]}),
        (r"\((?P<a>[^()]*)\)", ["f(arg)"], {"a": ["arg"]}),
        (r"[(](?P<a>[]()]+)", ["(])("], {"a": ["])("]}),
        (r"[^](](?P<a>\w)", ["(a", "xb"], {"a": [None, "b"]}),
        (r"\Q(\E(?P<a>\w)", ["(a", "b"], {"a": ["a", None]}),
        (r"(?:no)(?P<a>.)", ["no!"], {"a": ["!"]}),
        (r"(?i)(?P<a>ERROR)", ["an Error"], {"a": ["Error"]}),
        (r"(?<a>\d)", ["5"], {"a": ["5"]}),
        (r"((?P<a>b)c)", ["bc"], {"a": ["b"]}),
        (r"(?P<a>é+)", ["caféé", "\0é"], {"a": ["éé", "é"]}),
        (r"(?P<level>[[:upper:]]+)(?P<rest>.*)", ["xINFO y"], {"level": ["INFO"], "rest": [" y"]}),
    ],
)
def test_regex_takes_out_named_groups(expression: str, lines: list[str], expected: dict) -> None:
    assert extracted(Regex(expression)(made(lines))) == expected


@pytest.mark.parametrize(
    "expression", ["(?P<a>", "(?P<a>x)(?P<a>y)", "(?=x)(?P<a>y)", r"(?P<a>x)\1", "x+", "(unnamed)"]
)
def test_what_is_no_re2_with_a_name_is_refused(expression: str) -> None:
    with pytest.raises(StageError, match=r"not RE2|no named group|two groups"):
        Regex(expression)


def test_a_line_that_does_not_match_keeps_what_was_extracted() -> None:
    entries = Regex(r"^a(?P<x>\d)")(made(["a1", "b2", "c3"]))
    assert extracted(Regex(r"^b(?P<x>\d)")(entries)) == {"x": ["1", "2", None]}


def test_regex_reads_its_source() -> None:
    entries = Regex(r"(?P<word>\w+)")(made(["ab cd", "-"]))
    assert extracted(Regex(r"^(?P<first>.)", "word")(entries)) == {"word": ["ab", None], "first": ["a", None]}
    assert extracted(Regex(r"(?P<x>.)", "missing")(entries))["x"] == [None, None]


@given(st.lists(st.text(st.sampled_from("ab1 é\0"), max_size=8), max_size=6))
def test_regex_is_re2(lines: list[str]) -> None:
    expression = r"(?P<x>a+)(\d)?|(?P<y>b)"
    found = extracted(Regex(expression)(made(lines)))
    matches = [re2.search(expression, line) for line in lines]
    assert found["x"] == [None if m is None else m["x"] or "" for m in matches]
    assert found["y"] == [None if m is None else m["y"] or "" for m in matches]


def test_a_narrowed_pipeline_does_the_same() -> None:
    stages = [
        Regex(r"^(?P<time>\S+) (?P<level>\w+) (?P<user>\w+) (?P<rest>.*)"),
        Regex(r"(?P<code>\d+)(?P<unused>x)?", "rest"),
        Timestamp("time", "RFC3339"),
        Labels({"level": None, "who": "user", "code": None}),
    ]
    lines = ["2024-01-01T00:00:00Z INFO ann code 5x", "nonsense", "2024-01-01T00:00:01Z WARN bob none"]
    whole = narrow = made(lines, {"job": "j"})
    for stage in stages:
        whole = stage(whole)
    stages[2] = Timestamp("time", "RFC3339")
    for stage in narrowed(stages):
        narrow = stage(narrow)
    assert narrow.record_batch().equals(whole.record_batch())
    assert narrowed([Regex("(?<level>x)"), Labels({"level": None})])[0](made(["x"])).source("level").to_pylist() == [
        "x"
    ]


# -- json


@pytest.mark.parametrize(
    ("expressions", "lines", "expected"),
    [
        (
            {"a": None},
            ['{"a":"x"}', '{"b":1}', "no json", "", "null", "[1]"],
            {"a": ["x", None, None, None, None, None]},
        ),
        ({"a": "b.c"}, ['{"b":{"c":"deep"}}', '{"b":"c"}'], {"a": ["deep", None]}),
        ({"a": "b[1].c"}, ['{"b":[0,{"c":true}]}'], {"a": ["true"]}),
        ({"a": '"x-y"."z.w"'}, ['{"x-y":{"z.w":"v"}}'], {"a": ["v"]}),
        ({"a": None, "b": None}, ['{"a":1,"b":-2.5}', '{"a":0,"b":false}'], {"a": ["1", "0"], "b": ["-2.5", "false"]}),
        ({"a": None}, ['{"a":null}', '{"a":""}'], {"a": [None, ""]}),
        ({"a": None}, ['{"a":{"b":[1,"x"]}}', '{"a":[1,2]}'], {"a": ['{"b":[1,"x"]}', "[1,2]"]}),
        ({"a": None}, ['{"a":"é\\u0041\\n\\u0000!"}'], {"a": ["éA\n\0!"]}),
        ({"a": None}, ['{"a":"x"', '{"a":"x"} trailing', ' {"a" : "x"} '], {"a": [None, None, "x"]}),
        ({"a": None}, ["[" * 5000, '{"a":' * 500 + "1" + "}" * 500][:1], {"a": [None]}),
    ],
)
def test_json_takes_out_values(expressions: dict, lines: list[str], expected: dict) -> None:
    assert extracted(Json(expressions)(made(lines))) == expected


def test_json_reads_its_source_and_keeps_what_others_extracted() -> None:
    entries = Regex(r"^(?P<level>\w+) (?P<body>.*)")(made(['INFO {"level":"debug","x":{"y":1}}', "WARN {}", "-"]))
    entries = Json({"level": None, "deep": "x.y"}, "body")(entries)
    found = extracted(entries)
    assert found["level"] == ["debug", "WARN", None]
    assert found["deep"] == ["1", None, None]


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("ab"), st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4))
    )
)
def test_json_is_what_orjson_reads(values: list[dict]) -> None:
    found = extracted(Json({"a": None})(made([orjson.dumps(v).decode() for v in values])))

    def shown(value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        return orjson.dumps(value).decode()

    assert found["a"] == [shown(v.get("a")) for v in values]


@pytest.mark.parametrize("expression", ["a.", ".a", "a b", "a[*]", "a || b", "length(a)", "[0]", "a[-1]", "", "a.'b'"])
def test_paths_beyond_names_and_indexes_are_refused(expression: str) -> None:
    with pytest.raises(StageError, match="beyond the names and indexes"):
        json_path(expression)


def test_json_needs_expressions() -> None:
    with pytest.raises(StageError, match="no expressions"):
        Json({})


# -- labels


def test_labels_come_from_extracted_values() -> None:
    entries = Regex(r"^(?P<level>\w+):(?P<n>\d)?")(made(["INFO:1", "nothing", "WARN:"], {"level": "old", "job": "j"}))
    entries = Labels({"level": None, "number": "n", "gone": "missing"})(entries)
    assert entries.record_batch().column("labels").to_pylist() == [
        '{"job":"j","level":"INFO","number":"1"}',
        '{"job":"j","level":"old"}',
        '{"job":"j","level":"WARN"}',
    ]


def test_static_labels_replace() -> None:
    entries = StaticLabels({"a": "new", "b": "2"})(made(["x"], {"a": "old"}))
    assert entries.labels == {"a": "new", "b": "2"}


# -- timestamp


def stamped(stage: Timestamp, lines: Sequence[str], labels: Mapping[str, object] | None = None) -> list[int]:
    entries = Regex(r"^(?P<t>[^ ]*)")(made(lines, labels))
    return stage(entries).ts.tolist()


def test_fudge_gives_the_last_time_and_a_nanosecond_more() -> None:
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["100 a", "x", "y", "200", "z"]) == [
        100 * 10**9,
        100 * 10**9 + 1,
        100 * 10**9 + 2,
        200 * 10**9,
        200 * 10**9 + 1,
    ]
    # It goes on in the next batches, in order, however long no time comes.
    assert stamped(stage, ["x", "y"]) == [200 * 10**9 + 2, 200 * 10**9 + 3]
    assert stamped(stage, ["x", "150"]) == [200 * 10**9 + 4, 150 * 10**9]
    assert stamped(stage, ["x"]) == [150 * 10**9 + 1]


def test_fudge_without_a_time_before_is_the_time_of_reading() -> None:
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["x", "y"]) == [READ, READ + 1]
    assert stamped(stage, ["x", "100", "z"]) == [READ, 100 * 10**9, 100 * 10**9 + 1]


def test_fudge_keeps_streams_apart() -> None:
    # Promtail's last known time is that of the same labels: two files of one job do not mix.
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["100"], {"filename": "a"}) == [100 * 10**9]
    assert stamped(stage, ["x", "y"], {"filename": "b"}) == [READ, READ + 1]
    assert stamped(stage, ["x"], {"filename": "a"}) == [100 * 10**9 + 1]
    streams = {"s": pa.array(["1", "2", "1", None, "2", "1"])}
    assert stamped(Timestamp("t", "Unix"), ["1", "x", "y", "z", "5", "w"], streams) == [
        10**9,
        READ + 1,
        10**9 + 1,
        READ + 3,
        5 * 10**9,
        10**9 + 2,
    ]


def test_skip_leaves_the_time_of_reading() -> None:
    stage = Timestamp("t", "Unix", action_on_failure="skip")
    assert stamped(stage, ["100", "x", "200", "y"]) == [100 * 10**9, READ + 1, 200 * 10**9, READ + 3]


def test_fallback_formats_are_tried_in_order() -> None:
    stage = Timestamp("t", "RFC3339", fallback_formats=("UnixMs", "2006-01-02"), action_on_failure="skip")
    assert stamped(stage, ["1970-01-01T00:00:01Z", "5", "1970-01-02", "x"]) == [
        10**9,
        5 * 10**6,
        86400 * 10**9,
        READ + 3,
    ]


def test_location_and_missing_source() -> None:
    stage = Timestamp("t", "2006-01-02", location="Asia/Tokyo")
    assert stamped(stage, ["1970-01-02"]) == [(86400 - 9 * 3600) * 10**9]
    assert stamped(Timestamp("nothing", "Unix"), ["1", "2"]) == [READ, READ + 1]
    assert stamped(stage, []) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"format": "no layout"},
        {"format": "Unix", "location": "X"},
        {"format": "Unix", "action_on_failure": "x"},
        {"format": "Unix", "fallback_formats": ("bad",)},
    ],
)
def test_wrong_timestamp_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(StageError):
        Timestamp("t", **arguments)


@given(
    st.lists(st.tuples(st.sampled_from(["", "5", "7", "x"]), st.sampled_from([None, "a", "b"])), max_size=12),
    st.integers(0, 12),
)
def test_fudge_is_that_of_one_row_after_the_other(rows: list[tuple[str, str | None]], split: int) -> None:
    stage = Timestamp("t", "Unix")
    last: dict[str | None, int] = {}
    for part in (rows[:split], rows[split:]):
        expected = []
        for at, (text, stream) in enumerate(part):
            if text.isdigit():
                last[stream] = int(text) * 10**9
                expected.append(last[stream])
            elif stream in last:
                last[stream] += 1
                expected.append(last[stream])
            else:
                expected.append(READ + at)
        assert stamped(stage, [t for t, _ in part], {"s": pa.array([s for _, s in part], pa.utf8())}) == expected
