from __future__ import annotations

from collections.abc import Mapping

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.entries import column
from atalaia.collector.formats.spool import records
from atalaia.collector.listeners.records import PLACED, cursors_of, encode, placed, quoted, state
from atalaia.collector.meters import Meters
from atalaia.store.batch import METADATA, SCHEMA, canonical

TEXT = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["}null", "\\", '"', "\0\x01\x1f\n\r\t", "{}"]
)
NAMES = st.sampled_from(["a", "b", "__c", "long_name"])


def table_of(rows: list[tuple[int, dict[str, str], str, dict[str, str] | None]]) -> pa.Table:
    ts, labels, lines, metadata = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.Table.from_arrays(
        [
            pa.array(ts, pa.int64()),
            pa.array([canonical(one) for one in labels], pa.utf8()).dictionary_encode(),
            pa.array(lines, pa.utf8()),
            pa.array([None if one is None else list(one.items()) for one in metadata], METADATA),
        ],
        schema=SCHEMA,
    )


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**63 - 1),
        st.dictionaries(NAMES, TEXT.filter(bool), max_size=3),
        TEXT,
        st.none() | st.dictionaries(st.sampled_from(["k", "trace id", '"q"']), TEXT, max_size=3),
    ),
    max_size=8,
)


@given(ROWS, st.integers(0, 3))
def test_what_is_written_is_read_again(
    rows: list[tuple[int, dict[str, str], str, dict[str, str] | None]], cut: int
) -> None:
    block = state({"x": "y"}) + b"".join(encode(table_of(rows).slice(cut)))
    found = records(block, {"job": "none"})
    kept = rows[cut:]
    assert found.ts.tolist() == [row[0] for row in kept]
    assert found.lines.to_pylist() == [row[2] for row in kept]
    assert found.first_lines.tolist() == list(range(1, len(kept) + 1))
    for number, (_, labels, _, metadata) in enumerate(kept):
        plain = {name: value for name, value in labels.items() if not name.startswith("__")}
        seen = {name: column(value, len(found))[number].as_py() for name, value in found.labels.items()}
        assert {k: v for k, v in seen.items() if v is not None} == (plain or {"job": "none"})
        pairs = {name: column(value, len(found))[number].as_py() for name, value in found.metadata.items()}
        assert {k: v for k, v in pairs.items() if v is not None} == (metadata or {})


@given(st.lists(st.none() | TEXT, max_size=6))
def test_texts_are_escaped_as_json(texts: list[str | None]) -> None:
    found = quoted(pa.array(texts, pa.utf8())).to_pylist()
    assert [None if one is None else orjson.loads(f'"{one}"') for one in found] == texts


def test_relabelling_sees_hidden_labels_and_drops_are_counted() -> None:
    def relabel(labels: Mapping[str, str]) -> Mapping[str, str] | None:
        return None if labels["__host"] == "noisy" else {**labels, "host": labels["__host"]}

    rows = [(n, {"job": "j", "__host": host}, f"line {n}", None) for n, host in enumerate(["a", "noisy", "b", "noisy"])]
    found = records(b"".join(encode(table_of(rows))), {}, relabel)
    assert found.lines.to_pylist() == ["line 0", "line 2"]
    assert found.labels == {"job": "j", "host": pa.array(["a", "b"])}
    assert found.last_lines.tolist() == [0, 2]
    meters = Meters()
    for effect in found.effects:
        effect.apply(meters, effect.lines < 3)
    assert meters.registry.get_sample_value("logentry_dropped_lines_total", {"reason": "relabel"}) == 1


@pytest.mark.parametrize("damage", [b"\n", b"{\n", b"null\n", b'{"ts":"x","labels":"{}","line":""}\n', b"[]\n"])
def test_a_damaged_record_is_passed_over_and_told(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(n, {"job": "j"}, f"line {n}", {"k": "v"}) for n in range(3)]
    good = next(iter(encode(table_of(rows)))).splitlines(keepends=True)
    found = records(good[0] + damage + good[1] + good[2], {})
    assert found.lines.to_pylist() == ["line 0", "line 1", "line 2"]
    assert found.first_lines.tolist() == [0, 2, 3]
    assert found.metadata["k"].to_pylist() == ["v", "v", "v"]
    assert "spool_damaged" in caplog.text


def test_a_line_whose_labels_are_damaged_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    for labels in ("[]", "{", "7"):
        found = records(orjson.dumps({"ts": 1, "labels": labels, "line": "l"}) + b"\n", {"job": "j"})
        assert (found.lines.to_pylist(), found.labels) == (["l"], {"job": "j"})
    assert "spool_damaged" in caplog.text


def test_the_last_cursor_of_each_source_counts() -> None:
    rows = [(n, {"job": "j"}, '"cursor":"no"', None) for n in range(3)]
    table = table_of(rows)
    first = placed(table, "a", ["1", "2", "3"])
    both = pa.concat_tables([first, placed(table, 'b"', ["7", '8"', "9"])]).cast(PLACED)
    plain = b"".join(encode(table))
    assert cursors_of(state({"a": "0", "old": "5"}) + b"".join(encode(both)) + plain) == {
        "a": "3",
        'b"': "9",
        "old": "5",
    }
    assert cursors_of(plain) == {}
    assert cursors_of(b"".join(encode(first)) + b'{"cursor":\n') == {"a": "3"}
