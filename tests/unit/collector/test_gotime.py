from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atalaia.logql.template import gotime
from atalaia.logql.template.gotime import NAMED, Layout, LayoutError
from atalaia.logql.template.gotimes import Moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT = st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31))  # noqa: DTZ001


def ns(moment: datetime) -> int:
    delta = moment - EPOCH
    return (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000


def parse(layout: str, *values: str | None, location: str | None = None) -> list[int | None]:
    return Layout(layout, location).parse(pa.array(values, pa.utf8())).to_pylist()


FIXED = [
    ("2006-01-02 15:04:05.000 MST", "%Y-%m-%d %H:%M:%S.{ms:03} UTC"),
    ("2006-01-02T15:04:05", "%Y-%m-%dT%H:%M:%S"),
    ("2006/01/02 15:04:05.000000", "%Y/%m/%d %H:%M:%S.%f"),
    ("2006-01-02 15:04:05,000000000", "%Y-%m-%d %H:%M:%S,%f789"),
    ("20060102 150405", "%Y%m%d %H%M%S"),
    ("02.01.2006 15:04", "%d.%m.%Y %H:%M"),
    ("[2006-01-02]", "[%Y-%m-%d]"),
]


def written(moment: datetime, form: str) -> str:
    text = form.replace("%Y", f"{moment.year:04}").replace("{ms:03}", f"{moment.microsecond // 1000:03}")
    return moment.strftime(text)


@given(MOMENT, st.sampled_from(FIXED))
def test_fixed_layouts_read_what_python_writes(moment: datetime, pair: tuple[str, str]) -> None:
    layout, form = pair
    expected = moment.replace(
        second=moment.second if "05" in layout else 0,
        microsecond=0 if ".000" not in layout and ",000" not in layout else moment.microsecond,
    )
    if "15" not in layout:
        expected = expected.replace(hour=0, minute=0)
    if layout.endswith(".000 MST"):
        expected = expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    total = ns(expected.replace(tzinfo=UTC)) + (789 if layout.endswith("0" * 9) else 0)
    compiled = Layout(layout)
    assert compiled._shape, "read by the fast way"
    text = written(moment, form)
    assert compiled.parse(pa.array([text])).to_pylist() == [total]
    assert compiled.parse_one(text) == total


@given(MOMENT, st.sampled_from(FIXED), st.data())
def test_the_fast_way_is_the_slow_way(moment: datetime, pair: tuple[str, str], data: st.DataObject) -> None:
    layout, form = pair
    text = list(written(moment, form))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from("0123456789 -:.,TZUC[]²٣é\0") | st.just(""))
    value = "".join(text)
    compiled = Layout(layout)
    # Beside other rows, nulls and strangers, and behind an offset.
    column = pa.array(["nonsense", value, None, written(moment, form), value]).slice(1)
    slow = compiled.parse_one(value)
    assert compiled.parse(column).to_pylist() == [slow, None, compiled.parse_one(written(moment, form)), slow]


@given(st.lists(st.tuples(MOMENT, st.integers(1, 4)), max_size=5), st.sampled_from(FIXED), st.data())
def test_runs_of_one_second_are_read_as_each_row_alone(
    runs: list[tuple[datetime, int]], pair: tuple[str, str], data: st.DataObject
) -> None:
    layout, form = pair
    rows: list[str | None] = []
    for moment, length in runs:
        for _ in range(length):
            text = list(written(moment.replace(microsecond=data.draw(st.integers(0, 999_999))), form))
            for at in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=1)):
                text[at] = data.draw(st.sampled_from("059 -:.,[٣\0"))
            rows.append(data.draw(st.sampled_from(["".join(text), None])))
    compiled = Layout(layout)
    assert compiled.parse(pa.array(rows, pa.utf8())).to_pylist() == [row and compiled.parse_one(row) for row in rows]


@given(st.lists(st.text(string.digits + "-:. ", min_size=19, max_size=19), max_size=5))
def test_random_digits_are_read_the_same_both_ways(values: list[str]) -> None:
    layout = Layout("2006-01-02 15:04:05")
    assert layout.parse(pa.array(values, pa.utf8())).to_pylist() == [layout.parse_one(v) for v in values]


@pytest.mark.parametrize(
    ("layout", "value", "expected"),
    [
        ("ANSIC", "Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05+00:00"),
        ("UnixDate", "Mon Jan  2 15:04:05 UTC 2006", "2006-01-02T15:04:05+00:00"),
        ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006", "2006-01-02T15:04:05-07:00"),
        ("RFC822", "02 Jan 06 15:04 UTC", "2006-01-02T15:04:00+00:00"),
        ("RFC822Z", "02 Jan 69 15:04 -0730", "1969-01-02T15:04:00-07:30"),
        ("RFC850", "Monday, 02-Jan-68 15:04:05 UTC", "2068-01-02T15:04:05+00:00"),
        ("RFC1123", "Mon, 02 Jan 2006 15:04:05 GMT", "2006-01-02T15:04:05+00:00"),
        ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 +0230", "2006-01-02T15:04:05+02:30"),
        ("RFC3339", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05+00:00"),
        ("RFC3339", "2006-01-02T15:04:05.25+02:00", "2006-01-02T15:04:05.250000+02:00"),
        ("RFC3339Nano", "2006-01-02T15:04:05.123456-03:00", "2006-01-02T15:04:05.123456-03:00"),
        ("RFC3339Nano", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05+00:00"),
        ("2006-01-02 15:04:05", "2024-02-29 23:59:59", "2024-02-29T23:59:59+00:00"),
        ("2006-01-02 15:04:05", "2024-02-29 23:59:59.5", "2024-02-29T23:59:59.500000+00:00"),
        ("2006-01-02 15:04:05", "2024-02-29 3:59:59", "2024-02-29T03:59:59+00:00"),
        ("Jan 2 2006 3:04PM", "feb 3 2020 12:05AM", "2020-02-03T00:05:00+00:00"),
        ("Jan 2 2006 3:04PM", "FEB 3 2020 12:05PM", "2020-02-03T12:05:00+00:00"),
        ("Jan 2 2006 3:04", "Feb 3 2020 12:05", "2020-02-03T12:05:00+00:00"),
        ("Jan 2 2006 3:04pm", "Feb 13 2020 1:05pm", "2020-02-13T13:05:00+00:00"),
        ("January 2, 2006", "september 30, 2020", "2020-09-30T00:00:00+00:00"),
        ("2006 002", "2024 366", "2024-12-31T00:00:00+00:00"),
        ("Jan 2 2006", "Feb  3 2020", "2020-02-03T00:00:00+00:00"),
        ("Jan _2 2006", "Feb 3 2020", "2020-02-03T00:00:00+00:00"),
        ("02/Jan/2006:15:04:05 -0700", "10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00"),
        ("2006-01-02 15:04:05.000 MST", "2026-03-01 12:00:00.250 +03", "2026-03-01T12:00:00.250000+03:00"),
        ("2006-01-02 15:04:05.000 MST", "2026-03-01 12:00:00.250 CET", "2026-03-01T12:00:00.250000+00:00"),
    ],
)
def test_layouts_read_as_go_reads_them(layout: str, value: str, expected: str) -> None:
    assert parse(layout, value) == [ns(datetime.fromisoformat(expected))]


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        ("2006-01-02", "2023-02-29"),
        ("2006-01-02", "1900-02-29"),
        ("2006-01-02", "2023-13-01"),
        ("2006-01-02", "2023-00-01"),
        ("2006-01-02", "2023-04-31"),
        ("2006-01-02", "2023-04-00"),
        ("2006-01-02", "2023-04-1"),
        ("2006-01-02", "9999-12-31"),
        ("2006-01-02", "0001-01-01"),
        ("2006-01-02", "٢٠٢٣-01-01"),
        ("2006-01-02", " 2023-01-01"),
        ("2006-01-02", "2023-01-01\n"),
        ("2006-01-02", ""),
        ("2006-01-02 15:04:05", "2023-01-01 24:00:00"),
        ("2006-01-02 15:04:05", "2023-01-01 00:60:00"),
        ("2006-01-02 15:04:05", "2016-12-31 23:59:60"),
        ("2006-01-02 15:04:05.000", "2016-12-31 23:59:59"),
        ("2006-01-02 15:04:05.000", "2016-12-31 23:59:59.12"),
        ("2006-01-02 3:04PM", "2016-12-31 13:59PM"),
        ("Jan 2 2006", "Foo 2 2006"),
        ("RFC3339", "2006-01-02T15:04:05"),
        ("RFC3339", "2006-01-02T15:04:05+99:00"),
    ],
)
def test_what_is_no_such_time_is_null(layout: str, value: str) -> None:
    assert parse(layout, value, None) == [None, None]


def test_the_ends_of_int64_are_held() -> None:
    values = ["2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775808Z"]
    assert parse("RFC3339Nano", *values) == [2**63 - 1, None]
    values = ["1677-09-21T00:12:43.145224192Z", "1677-09-21T00:12:43.145224191Z"]
    assert parse("RFC3339Nano", *values) == [-(2**63), None]


def test_more_digits_than_nanoseconds_are_cut() -> None:
    assert parse("2006-01-02 15:04:05.0000000000", "1970-01-01 00:00:00.1234567899") == [123456789]
    assert parse("RFC3339Nano", "1970-01-01T00:00:00.1234567899Z") == [123456789]


@given(MOMENT, st.integers(-14 * 60, 14 * 60))
def test_offsets_are_taken_away(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = there.isoformat()
    assert parse("RFC3339Nano", text) == [ns(there)]
    assert parse("2006-01-02T15:04:05.999999Z0700", text[:-3] + text[-2:], text) == [ns(there), None]


@given(st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)))  # noqa: DTZ001
def test_a_location_holds_for_times_without_a_zone(moment: datetime) -> None:
    berlin = moment.replace(microsecond=0, tzinfo=ZoneInfo("Europe/Berlin"))
    text = berlin.strftime("%Y-%m-%d %H:%M:%S")
    assert parse("2006-01-02 15:04:05", text, location="Europe/Berlin") == [ns(berlin.astimezone(UTC))]
    # Only a name that the location has, or UTC, says more.
    named = Layout("2006-01-02 15:04:05 MST", "Europe/Berlin")
    assert named.parse_one(f"{text} UTC") == ns(berlin.replace(tzinfo=UTC))
    assert named.parse_one(f"{text} PST") == ns(berlin.replace(tzinfo=UTC))
    assert named.parse_one(f"{text} CET") == ns(berlin.replace(tzinfo=timezone(timedelta(hours=1))))
    assert named.parse_one(f"{text} CEST") == ns(berlin.replace(tzinfo=timezone(timedelta(hours=2))))


class Clock(datetime):
    today_is = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.today_is.astimezone(tz)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("today", "text", "year"),
    [
        ("2026-06-15", "Jun 15 12:00:00", 2026),
        ("2026-06-15", "Jun 16 12:00:00", 2026),
        ("2026-06-15", "Jun 20 12:00:00", 2025),
        ("2026-01-01", "Dec 31 23:59:59", 2025),
        ("2025-12-31", "Jan  1 00:00:05", 2026),
        ("2026-06-15", "Feb 29 12:00:00", 2024),
        ("2024-03-01", "Feb 29 12:00:00", 2024),
        ("2026-06-15", "Feb 30 12:00:00", None),
    ],
)
def test_without_a_year_it_is_the_latest_that_is_not_ahead(
    monkeypatch: pytest.MonkeyPatch, today: str, text: str, year: int | None
) -> None:
    monkeypatch.setattr(Clock, "today_is", datetime.fromisoformat(today).replace(tzinfo=UTC))
    monkeypatch.setattr(gotime, "datetime", Clock)
    expected = (
        None if year is None else ns(datetime.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC))
    )
    assert parse("Jan _2 15:04:05", text) == [expected]
    assert parse("Jan 2 15:04:05", text) == [expected]


@pytest.mark.parametrize(
    ("layout", "value", "expected"),
    [
        ("Unix", "1700000000", 1700000000 * 10**9),
        ("Unix", "1700000000.5", 1700000000 * 10**9 + 500_000_000),
        ("Unix", "1700000000.123456789123", 1700000000_123456789),
        ("Unix", "-1", -(10**9)),
        ("Unix", "-1.5", -500_000_000),  # as Promtail: the fraction is added
        ("UnixMs", "1700000000123", 1700000000123 * 10**6),
        ("UnixUs", "1700000000123456", 1700000000123456 * 1000),
        ("UnixNs", "1700000000123456789", 1700000000123456789),
        ("UnixNs", str(2**63 - 1), 2**63 - 1),
        ("UnixNs", str(2**63), None),
        ("Unix", "9999999999999", None),
        ("Unix", "9999999999.9", None),
        ("Unix", "x", None),
        ("Unix", "", None),
        ("Unix", "1e9", None),
        ("UnixMs", "1.5", None),
        ("Unix", "１", None),
    ],
)
def test_unix_times(layout: str, value: str, expected: int | None) -> None:
    # The same alone, among good ones, and among ones that are too large.
    assert parse(layout, value) == [expected]
    assert parse(layout, "1", value, None)[1:] == [expected, None]
    assert parse(layout, "9" * 18, value)[1] == expected


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1)))
def test_nanoseconds_come_back(values: list[int]) -> None:
    assert parse("UnixNs", *map(str, values)) == values


@pytest.mark.parametrize("layout", ["", "no time here", "yyyy-mm-dd", "2006 2006"])
def test_layouts_without_meaning_are_refused(layout: str) -> None:
    with pytest.raises(LayoutError):
        Layout(layout)


@pytest.mark.parametrize("location", ["Nowhere/City", "Europe", "../etc/passwd", "\0", "/etc/passwd"])
def test_unknown_locations_are_refused(location: str) -> None:
    with pytest.raises(LayoutError, match="unknown location"):
        Layout("RFC3339", location)


@given(st.sampled_from([*NAMED, "Jan _2 15:04:05", "2006-01-02 15:04:05.000"]), st.text(max_size=30))
def test_no_text_breaks_a_layout(layout: str, text: str) -> None:
    assume("\ud800" not in text)
    found = Layout(layout).parse(pa.array([text, None]))
    assert found.to_pylist() == [Layout(layout).parse_one(text), None]


# -- the vectorised way is the one of single values

LAYOUTS = [
    *NAMED,
    "2006-01-02 15:04:05.999 MST",
    "2006-01-02 15:04:05 -07",
    "02/Jan/2006:15:04:05 -0700",
    "Jan _2 15:04:05",
    "01-02 15:04:05.000",
    "2006-01-02 15:04:05",
    "06/01/02 15:04",
]
MUTATED = st.tuples(st.integers(0, 40), st.sampled_from([*"0123456789 :+-ZTA.", ""]))


@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from([None, "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.lists(
        st.tuples(
            st.datetimes(datetime(1969, 1, 1), datetime(2069, 1, 1)),  # noqa: DTZ001
            st.sampled_from([0, 1, 500_000_000, 123_456_789]),
            st.sampled_from([0, 60, -210, 330]),
            st.none() | MUTATED,
        ),
        max_size=6,
    ),
)
def test_columns_are_read_as_single_values(layout: str, location: str | None, rows: list) -> None:
    texts = []
    for moment, fraction, minutes, mutated in rows:
        there = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
        text = Moment(ns(there) + fraction, there.tzinfo).format(NAMED.get(layout, layout))
        if mutated:
            at, character = mutated
            text = text[:at] + character + text[at + 1 :]
        texts.append(text)
    compiled = Layout(layout, location)
    assert compiled.parse(pa.array(texts, pa.utf8())).to_pylist() == [compiled.parse_one(text) for text in texts]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "RFC850"])
def test_these_layouts_are_read_the_fast_way(layout: str) -> None:
    assert Layout(layout)._shape


@pytest.mark.parametrize(
    ("location", "local", "expected"),
    [
        # Of two times that local time may mean, and for one that it skips, the one that Go's time.Date gives.
        ("Europe/Berlin", "2024-10-27 02:30:00", "2024-10-27T01:30:00Z"),
        ("Europe/Berlin", "2024-03-31 02:30:00", "2024-03-31T01:30:00Z"),
        ("America/New_York", "2024-11-03 01:30:00", "2024-11-03T05:30:00Z"),
        ("America/New_York", "2024-03-10 02:30:00", "2024-03-10T06:30:00Z"),
        ("Asia/Kolkata", "2024-03-10 02:30:00", "2024-03-09T21:00:00Z"),
        ("Local", "2024-03-10 02:30:00", None),
    ],
)
def test_local_times_are_those_of_the_location(location: str, local: str, expected: str | None) -> None:
    layout = Layout("2006-01-02 15:04:05", location)
    (found,) = layout.parse(pa.array([local])).to_pylist()
    assert found == layout.parse_one(local)
    assert expected is None or Moment(found).format("2006-01-02T15:04:05Z07:00") == expected


def test_zones_by_name() -> None:
    layout = "2006-01-02 15:04:05 MST"
    names = [
        f"2024-07-01 12:00:00 {name}" for name in ("UTC", "CEST", "CET", "EST", "GMT", "+02", "WITA", "ABCDE", "x")
    ]
    noon = ns(datetime(2024, 7, 1, 12, tzinfo=UTC))
    hour = 3600 * 10**9
    assert parse(layout, *names) == [noon] * 5 + [noon - 2 * hour, noon, None, None]
    there = parse(layout, *names[:4], location="Europe/Berlin")
    assert there == [noon, noon - 2 * hour, noon - hour, noon]
