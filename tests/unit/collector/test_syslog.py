from __future__ import annotations

import calendar
import datetime as dt
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.listeners.syslog_frames import Framer
from atalaia.collector.listeners.syslog_messages import FORMATS, Messages, parameters, rfc3164, rfc5424

NOW = int(dt.datetime(2026, 11, 23, 1, 2, 3, tzinfo=dt.UTC).timestamp()) * 10**9


def one(found: Messages) -> dict[str, object]:
    assert found.good.tolist() == [True]
    fields = {name: value[0].as_py() for name, value in found.fields.items()}
    return {**fields, "ts": found.ts[0].as_py(), "message": found.message[0].as_py()}


# RFC 5424, 6.5: the examples.
EXAMPLES = [
    (
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed "
        "for lonvick on /dev/pts/8",
        ("critical", "auth", "mymachine.example.com", "su", None, "ID47"),
        1065910455003000000,
        "'su root' failed for lonvick on /dev/pts/8",
    ),
    (
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        ("notice", "local4", "192.0.2.1", "myproc", "8710", None),
        1061727255000003000,
        "%% It's time to make the do-nuts.",
    ),
    (
        '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" '
        'eventSource="Application" eventID="1011"] \ufeffAn application event log entry...',
        ("notice", "local4", "mymachine.example.com", "evntslog", None, "ID47"),
        1065910455003000000,
        "An application event log entry...",
    ),
]


@pytest.mark.parametrize(("text", "fields", "ts", "message"), EXAMPLES)
def test_rfc_5424_by_its_own_examples(text: str, fields: tuple[str | None, ...], ts: int, message: str) -> None:
    found = one(rfc5424(pa.array([text]), NOW))
    names = ("severity", "facility", "hostname", "app_name", "proc_id", "msg_id")
    assert tuple(found[name] for name in names) == fields
    assert (found["ts"], found["message"]) == (ts, message)


def test_structured_data_alone_is_an_empty_message() -> None:
    text = (
        '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" '
        'eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]'
    )
    found = rfc5424(pa.array([text]), NOW)
    assert one(found)["message"] == ""
    assert parameters(found.sd[0].as_py()) == {
        "exampleSDID_32473_iut": "3",
        "exampleSDID_32473_eventSource": "Application",
        "exampleSDID_32473_eventID": "1011",
        "examplePriority_32473_class": "high",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no header",
        "<192>1 - - - - - - x",
        "<1>x - - - - - - x",
        "<34>1 - - - -",
        '<34>1 - - - - - [a b="c] x',
        "<>1 - - - - - -",
    ],
)
def test_what_is_no_message_of_rfc_5424_is_known_as_bad(text: str) -> None:
    good = "<34>1 - - - - - - fine"
    assert rfc5424(pa.array([good, text, good]), NOW).good.tolist() == [True, False, True]


WORD = st.text(st.sampled_from("abcXYZ019.-_/"), min_size=1, max_size=12).filter(lambda word: word != "-")
VALUE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(
    pri=st.integers(0, 191),
    moment=st.none()
    | st.integers(0, 4 * 10**15).map(lambda us: dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=us)),
    words=st.tuples(*[st.none() | WORD] * 4),
    sd=st.dictionaries(WORD, st.dictionaries(WORD, VALUE, max_size=3), max_size=3),
    message=VALUE.filter(lambda text: not text.startswith("\ufeff")),
)
def test_what_is_written_by_rfc_5424_is_read(
    pri: int,
    moment: dt.datetime | None,
    words: tuple[str | None, ...],
    sd: dict[str, dict[str, str]],
    message: str,
) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")

    elements = "".join(
        f"[{name}" + "".join(f' {key}="{escaped(value)}"' for key, value in one.items()) + "]"
        for name, one in sd.items()
    )
    stamp = "-" if moment is None else moment.isoformat()
    text = f"<{pri}>1 {stamp} {' '.join(word or '-' for word in words)} {elements or '-'} {message}"
    found = rfc5424(pa.array([text]), NOW)
    fields = one(found)
    assert fields["message"] == message
    assert tuple(fields[name] for name in ("hostname", "app_name", "proc_id", "msg_id")) == words
    ns = None if moment is None else calendar.timegm(moment.timetuple()) * 10**9 + moment.microsecond * 1000
    assert fields["ts"] == ns
    flat = {
        f"{name}_{key}".replace(".", "_").replace("-", "_").replace("/", "_"): value
        for name, one_ in sd.items()
        for key, value in one_.items()
    }
    if sum(map(len, sd.values())) == len(flat):
        assert parameters(found.sd[0].as_py()) == flat


def local(*parts: int, fraction: int = 0) -> int:
    return int(time.mktime((*parts, 0, 0, -1))) * 10**9 + fraction  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            (local(2026, 10, 11, 22, 14, 15), "mymachine", "su", None, "'su root' failed for lonvick on /dev/pts/8"),
        ),
        (
            "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
            (local(2026, 2, 5, 17, 32, 18), "10.0.0.99", None, None, "Use the BFG!"),
        ),
        ("<13>Nov 23 00:00:00 h app[12]: a: b", (local(2026, 11, 23, 0, 0, 0), "h", "app", "12", "a: b")),
        ("<13>Nov 23 00:00:00 app[12]: text", (local(2026, 11, 23, 0, 0, 0), None, "app", "12", "text")),
        ("<13>Nov 23 2025 00:00:00 h app: text", (local(2025, 11, 23, 0, 0, 0), "h", "app", None, "text")),
        ("<13>2026-11-22T23:59:58.5+01:00 h app: text", (1795388398500000000, "h", "app", None, "text")),
        ("<13>app[1]: no time", (None, None, "app", "1", "no time")),
        ("<13>nothing of it", (None, None, None, None, "nothing of it")),
        (
            "<189>29: *Mar  1 18:46:11.123: %SYS-5-CONFIG_I: Configured",
            (local(2026, 3, 1, 18, 46, 11, fraction=123000000), None, "%SYS-5-CONFIG_I", None, "Configured"),
        ),
        ("<13>Nov 23 00:00:00 ::1 app: text", (local(2026, 11, 23, 0, 0, 0), "::1", "app", None, "text")),
        ("<13>Dec 31 23:59:59 h app: text", (local(2025, 12, 31, 23, 59, 59), "h", "app", None, "text")),
        ("<13>Feb 30 10:00:00 h app: text", (None, "h", "app", None, "text")),
    ],
)
def test_rfc_3164_and_what_is_sent_in_its_name(text: str, expected: tuple[object, ...]) -> None:
    found = one(rfc3164(pa.array([text]), NOW))
    assert tuple(found[name] for name in ("ts", "hostname", "app_name", "proc_id", "message")) == expected


def test_a_time_without_a_year_is_the_last_one_that_can_be() -> None:
    january = local(2026, 1, 1, 0, 0, 10)
    found = rfc3164(pa.array(["<13>Dec 31 23:59:59 h a: x", "<13>Jan  1 00:00:01 h a: x"]), january)
    assert found.ts.to_pylist() == [local(2025, 12, 31, 23, 59, 59), local(2026, 1, 1, 0, 0, 1)]
    december = local(2026, 12, 31, 23, 59, 50)
    assert rfc3164(pa.array(["<13>Jan  1 00:00:01 h a: x"]), december).ts.to_pylist() == [local(2027, 1, 1, 0, 0, 1)]


def test_auto_reads_both_side_by_side() -> None:
    texts = pa.array(["<34>1 - h app - - - new", "<34>Oct 11 22:14:15 h app: old", "neither"])
    found = FORMATS["auto"](texts, NOW)
    assert found.good.tolist() == [True, True, False]
    assert found.message.to_pylist()[:2] == ["new", "old"]
    assert found.fields["hostname"].to_pylist()[:2] == ["h", "h"]


MESSAGE = st.binary(max_size=30).map(
    lambda data: b"<13>" + data.replace(b"\n", b"n").replace(b"\0", b"z").rstrip(b"\r")
)


@given(
    st.lists(st.tuples(st.sampled_from(["line", "nul", "count"]), MESSAGE), max_size=8),
    st.lists(st.integers(1, 20), max_size=20),
)
def test_messages_come_out_of_a_stream_whatever_its_pieces(parts: list[tuple[str, bytes]], sizes: list[int]) -> None:
    form = {"line": b"%s\n", "nul": b"%s\0", "count": None}
    stream = b"".join(
        template % message if (template := form[kind]) else b"%d %s" % (len(message), message)
        for kind, message in parts
    )
    framer = Framer(1000)
    found = []
    for size in [*sizes, len(stream) + 1]:
        found += framer.feed(stream[:size])
        stream = stream[size:]
    assert found + framer.end() == [message for _, message in parts]


@given(st.lists(st.integers(1, 30), max_size=40), st.booleans())
def test_a_long_message_is_cut_and_the_next_one_whole(sizes: list[int], counted: bool) -> None:
    long, short = b"<13>" + b"x" * 500, b"<13>short"
    stream = b"".join(b"%d %s" % (len(m), m) if counted else m + b"\n" for m in (short, long, short))
    framer = Framer(100)
    found = []
    for size in [*sizes, len(stream)]:
        found += framer.feed(stream[:size])
        stream = stream[size:]
    found += framer.end()
    assert found[0] == found[2] == short
    assert len(found) == 3
    assert len(found[1]) <= 100
    assert found[1].startswith(b"<13>xxx")
    assert found[1].decode().endswith("…[cut: 504 bytes]")


def test_a_last_line_needs_no_newline_but_half_a_counted_message_is_none() -> None:
    framer = Framer(100)
    assert framer.feed(b"<13>first\r\n<13>second") == [b"<13>first"]
    assert framer.end() == [b"<13>second"]
    framer = Framer(100)
    assert framer.feed(b"20 <13>half") == []
    assert framer.end() == []
