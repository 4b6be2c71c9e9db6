from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.collector import pipeline
from atalaia.collector.formats import words
from atalaia.collector.formats.auto import Auto
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.pgbouncer import PgBouncer
from atalaia.collector.formats.prefix import KNOWN, PrefixError, chosen, compile_prefix
from atalaia.collector.formats.stderr import Stderr
from atalaia.collector.formats.syslogged import Syslogged
from atalaia.collector.plan import Job

NOW = 10**18
AT = 1772366400 * 10**9
MS = 10**6


def rows(form: Format, text: str, flush: int = pipeline.ALL) -> list[dict[str, Any]]:
    batch = pipeline.run(Job("j", (), form), text.encode(), NOW, {"job": "p"}, flush).entries.record_batch()
    batch.validate(full=True)
    found = batch.to_pylist()
    return [{**r, "labels": json.loads(r["labels"]), "metadata": dict(r["metadata"] or [])} for r in found]


PREFIXES = [
    ("%m [%p] ", "2026-03-01 12:00:00.250 UTC [77] ", {"pid": "77"}, 250),
    ("%t [%p]: ", "2026-03-01 13:00:00 CET [77]: ", {"pid": "77"}, 0),
    ("%n %p ", "1772366400.250 77 ", {"pid": "77"}, 250),
    ("%m [%p] %q%u@%d ", "2026-03-01 12:00:00.250 UTC [77] ", {"pid": "77"}, 250),
    (
        "%m [%p] %q%u@%d ",
        "2026-03-01 09:00:00.250 -03 [77] a b@c d ",
        {"pid": "77", "user": "a b", "database": "c d"},
        250,
    ),
    ("%m [%p] %u@%d ", "2026-03-01 12:00:00.250 UTC [77] [unknown]@[unbekannt] ", {"pid": "77"}, 250),
    ("%m [%p] %u@%d ", "2026-03-01 12:00:00.250 UTC [77] @ ", {"pid": "77"}, 250),
    (
        "%t:%r:%u@%d:[%p]:",
        "2026-03-01 12:00:00 UTC:10.1.2.3(5555):ann@shop:[77]:",
        {"pid": "77", "user": "ann", "database": "shop", "remote_host": "10.1.2.3", "remote_port": "5555"},
        0,
    ),
    ("%t:%r:%u@%d:[%p]:", "2026-03-01 12:00:00 UTC::@:[77]:", {"pid": "77"}, 0),
    (
        "%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
        "2026-03-01 12:00:00.250 UTC [77]: [3-1] user=ann,db=shop,app=[unknown],client=fe80::1 ",
        {"pid": "77", "user": "ann", "database": "shop", "remote_host": "fe80::1", "session_line": "3"},
        250,
    ),
    (
        "%m %-6p|%10u|%b|%e|%c|%s|%v|%x|%Q|%P|%i%% ",
        "2026-03-01 12:00:00.250 UTC 77    |       ann|client backend|42P01|69a.4d|"
        "2026-03-01 11:59:00 UTC|3/7|745|-5||SELECT% ",
        {
            "pid": "77",
            "user": "ann",
            "backend_type": "client backend",
            "sqlstate": "42P01",
            "session": "69a.4d",
            "session_start": "2026-03-01 11:59:00 UTC",
            "virtual_transaction": "3/7",
            "transaction": "745",
            "query_id": "-5",
            "command_tag": "SELECT",
        },
        250,
    ),
    ("%m %e %x %Q ", "2026-03-01 12:00:00.250 UTC 00000 0 0 ", {}, 250),
    ("[%p] %m: ", "[77] 2026-03-01 12:00:00.250 UTC: ", {"pid": "77"}, 250),
    ("%p %p ", "77 78 ", {"pid": "77"}, None),
    ("", "", {}, None),
]


@pytest.mark.parametrize(("prefix", "written", "metadata", "ms"), PREFIXES)
def test_every_escape(prefix: str, written: str, metadata: dict[str, str], ms: int | None) -> None:
    text = f"{written}ERROR:  a\n\tb\n{written}DETAIL:  c\n\td\n{written}LOG:  e\n"
    found = rows(Stderr(chosen(prefix)), text)
    assert [r["line"] for r in found] == ["ERROR:  a\nb\nDETAIL:  c\nd", "LOG:  e"]
    assert [r["labels"]["severity"] for r in found] == ["ERROR", "LOG"]
    assert found[0]["metadata"] == metadata
    assert found[0]["ts"] == (NOW if ms is None else AT + ms * MS)


@pytest.mark.parametrize("prefix", ["%z ", "%m %", "%-3y"])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(PrefixError):
        compile_prefix(prefix)


@pytest.mark.parametrize(("word", "english"), sorted(words.severities().items()))
def test_severities_of_all_languages(word: str, english: str) -> None:
    (row,) = rows(Stderr(chosen("%m [%p] ")), f"2026-03-01 12:00:00.250 UTC [77] {word}:  x\n")
    assert (row["line"], row["labels"]["severity"]) == (f"{word}:  x", english)


def test_a_severity_that_the_locale_could_not_write() -> None:
    (row,) = rows(Stderr(chosen("%m [%p] ")), "2026-03-01 12:00:00.250 UTC [77] ???:  x\n")
    assert (row["line"], row["labels"], row["metadata"]) == ("???:  x", {"job": "p"}, {"pid": "77"})


def test_headings_of_all_languages_belong_to_their_record() -> None:
    lines = "".join(f"2026-03-01 12:00:00.250 UTC [77] {heading}x\n" for heading in words.headings())
    (row,) = rows(Stderr(chosen("%m [%p] ")), f"2026-03-01 12:00:00.250 UTC [77] LOG:  x\n{lines}")
    assert row["line"].count("\n") == len(words.headings())


def test_an_abbreviation_means_what_postgresql_or_the_given_zone_says() -> None:
    text = "2026-03-01 17:30:00.000 IST [7] LOG:  x\n"
    assert rows(Stderr(chosen("%m [%p] ")), text)[0]["ts"] == AT + 210 * 60 * 10**9  # Israel
    assert rows(Stderr(chosen("%m [%p] "), "Asia/Kolkata"), text)[0]["ts"] == AT


def test_verbose_records_tell_their_sqlstate() -> None:
    p = "2026-03-01 12:00:00.250 UTC [77] "
    text = f"{p}ERROR:  42P01: x\n{p}LOCATION:  f, g.c:9\n{p}ERROR:  AAAAA: y\n"
    found = rows(Stderr(chosen("%m [%p] ")), text)
    assert [r["line"] for r in found] == ["ERROR:  x\nLOCATION:  f, g.c:9", "ERROR:  AAAAA: y"]
    assert [r["metadata"].get("sqlstate") for r in found] == ["42P01", None]


def test_lines_of_several_processes_in_between_each_other() -> None:
    p, q = "2026-03-01 12:00:00.250 UTC [77] ", "2026-03-01 12:00:00.251 UTC [78] "
    text = f"{p}ERROR:  a\n{q}ERROR:  b\n{p}DETAIL:  a1\n\ta2\n{q}DETAIL:  b1\nstray\n"
    text += f"{p}HINT:  a3\n{q}LOG:  c\n{p}LOG:  d\n"
    found = rows(Stderr(chosen("%m [%p] ")), text)
    assert [r["line"] for r in found] == [
        "ERROR:  a\nDETAIL:  a1\na2\nHINT:  a3",
        "ERROR:  b\nDETAIL:  b1",
        "stray",
        "LOG:  c",
        "LOG:  d",
    ]


def test_what_comes_before_the_settings_are_read() -> None:
    text = (
        "FATAL:  could not open\nHINT:  look\nsh: 1: x: not found\n\tat y\n"
        "2026-03-01 12:00:00.250 UTC [77] LOG:  default\n77 LOG:  own\nSegmentation fault (core dumped)\n"
    )
    found = rows(Stderr(chosen("%p ")), text)
    assert [(r["line"], r["ts"]) for r in found] == [
        ("FATAL:  could not open\nHINT:  look", NOW),
        ("sh: 1: x: not found\n\tat y", NOW),
        ("LOG:  default", AT + 250 * MS),
        ("LOG:  own", AT + 250 * MS),
        ("Segmentation fault (core dumped)", AT + 250 * MS),
    ]


def test_the_last_record_waits_for_its_lines() -> None:
    p = "2026-03-01 12:00:00.250 UTC [77] "
    text = f"{p}LOG:  a\n{p}ERROR:  b\n{p}DETAIL:  c\n"
    assert [r["line"] for r in rows(Stderr(chosen("%m [%p] ")), text, 0)] == ["LOG:  a"]
    assert len(rows(Stderr(chosen("%m [%p] ")), text)) == 2


def in_pieces(form: Format, block: bytes, cuts: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    done = 0
    for cut in [*sorted(cuts), len(block)]:
        end = block.rfind(b"\n", 0, cut) + 1
        if end > done:
            piece = block[done:end]
            flush = pipeline.ALL if end == len(block) else 0
            taken = pipeline.run(Job("j", (), form), piece, NOW, {}, flush)
            found += [{**r, "metadata": dict(r["metadata"] or [])} for r in taken.entries.record_batch().to_pylist()]
            done += sum(len(line) + 1 for line in piece.split(b"\n")[: taken.lines])
    return found


PIECES = st.lists(
    st.tuples(st.sampled_from([77, 78]), st.lists(st.text("a :\té", max_size=4), max_size=3), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.lists(st.integers(0, 600), max_size=4))
def test_blocks_cut_anywhere_give_the_same_entries(records: list[tuple[int, list[str], bool]], cuts: list[int]) -> None:
    text, wanted = "", []
    for pid, lines, hint in records:
        p = f"2026-03-01 12:00:00.250 UTC [{pid}] u@d "
        text += f"{p}ERROR:  x" + "".join(f"\n\t{line}" for line in lines) + "\n" + (f"{p}HINT:  é\n" if hint else "")
        wanted.append("\n".join(["ERROR:  x", *lines, *(["HINT:  é"] if hint else [])]))
    form = Stderr(chosen("%m [%p] %q%u@%d "))
    found = in_pieces(form, text.encode(), cuts)
    assert [r["line"] for r in found] == wanted
    assert found == in_pieces(form, text.encode(), [])


def test_pgbouncer() -> None:
    text = (
        "2026-03-01 12:00:00.250 UTC [9] LOG C-0x55d0: shop/ann@10.1.2.3:5555 login attempt: db=shop user=ann tls=no\n"
        "2026-03-01 12:00:00.251 UTC [9] WARNING S-0x55d1: shop/ann@::1:6432 closing because: x (age=1s)\n"
        "2026-03-01 12:00:00.252 UTC [9] LOG C-0x55d2: (nodb)/(nouser)@unix(7):6432 x\n"
        "2026-03-01 12:00:00.252 UTC [9] NOISE x\nno line of it\n"
        "2015-03-01 12:00:00.252 4242 ERROR old\n"
    )
    found = rows(PgBouncer(), text)
    assert [r["labels"].get("severity") for r in found] == ["LOG", "WARNING", "LOG", "DEBUG", None, "ERROR"]
    assert found[0]["line"] == "LOG C-0x55d0: shop/ann@10.1.2.3:5555 login attempt: db=shop user=ann tls=no"
    who = {"user": "ann", "database": "shop", "remote_port": "5555"}
    assert found[0]["metadata"] == {"pid": "9", **who, "remote_host": "10.1.2.3"}
    assert found[1]["metadata"]["remote_host"] == "::1"
    assert found[2]["metadata"] == {"pid": "9", "remote_host": "unix(7)", "remote_port": "6432"}
    assert (found[0]["ts"], found[4]["ts"], found[4]["line"]) == (AT + 250 * MS, AT + 252 * MS, "no line of it")
    assert (found[5]["line"], found[5]["metadata"]) == ("ERROR old", {"pid": "4242"})


SYSLOG = """\
2026-03-01T12:00:00.500000+00:00 db1 postgres[77]: [3-1] ERROR:  a {long}
2026-03-01T12:00:00.500001+00:00 db1 postgres[78]: [9-1] LOG:  other
2026-03-01T12:00:00.500001+00:00 db1 postgres[77]: [3-2]  the rest
2026-03-01T12:00:00.500001+00:00 db1 sshd[5]: nothing of ours
2026-03-01T12:00:00.500001+00:00 db1 postgres[77]: [3-3] #011second
2026-03-01T12:00:00.500001+00:00 db1 postgres[77]: [3-4] DETAIL:  why
2026-03-01T12:00:00.600000+00:00 db1 postgres[77]: [4-1] LOG:  next
"""


def test_syslog_puts_a_record_together_again() -> None:
    found = rows(Syslogged(Stderr(chosen(""))), SYSLOG)
    assert [r["line"] for r in found] == [
        "ERROR:  a {long} the rest\nsecond\nDETAIL:  why",
        "LOG:  other",
        "2026-03-01T12:00:00.500001+00:00 db1 sshd[5]: nothing of ours",
        "LOG:  next",
    ]
    assert [r["metadata"].get("pid") for r in found] == ["77", "78", None, "77"]
    assert [r["ts"] for r in found] == [AT + 500 * MS, AT + 500 * MS + 1000, AT + 500 * MS + 1000, AT + 600 * MS]
    assert [r["labels"].get("severity") for r in found] == ["ERROR", "LOG", None, "LOG"]


def test_syslog_with_a_prefix_of_the_server() -> None:
    p = "2026-03-01 12:00:00.250 UTC [77] ann@shop "
    text = (
        f"Mar  1 12:00:01 db1 postgres[77]: [3-1] {p}ERROR:  x\nMar  1 12:00:01 db1 postgres[77]: [3-2] {p}HINT:  y\n"
    )
    found = rows(Syslogged(Stderr(chosen("%m [%p] %q%u@%d "))), text)
    assert [(r["line"], r["ts"]) for r in found] == [("ERROR:  x\nHINT:  y", AT + 250 * MS)]
    assert found[0]["metadata"] == {"pid": "77", "user": "ann", "database": "shop"}


def test_syslog_whose_beginning_is_lost() -> None:
    text = (
        "2026-03-01T12:00:00+00:00 db1 postgres[77]: [3-1] LOG:  a\n"
        "2026-03-01T12:00:00+00:00 db1 postgres[78]: [9-2] #011rest\n"
        "2026-03-01T12:00:00+00:00 db2 postgres[77]: [9-2] DETAIL:  of another\n"
        "2026-03-01T12:00:00+00:00 db1 postgres[77]: [3-2] HINT:  b\n"
    )
    found = rows(Syslogged(Stderr(chosen(""))), text)
    assert [(r["line"], r["metadata"]["pid"]) for r in found] == [
        ("LOG:  a\nHINT:  b", "77"),
        ("\trest", "78"),
        ("DETAIL:  of another", "77"),
    ]


@given(st.lists(st.integers(0, 800), max_size=3))
def test_syslog_blocks_cut_anywhere(cuts: list[int]) -> None:
    form = Syslogged(Stderr(chosen("")))
    whole = sorted(map(str, in_pieces(form, SYSLOG.encode(), [])))
    assert sorted(map(str, in_pieces(form, SYSLOG.encode(), cuts))) == whole


@pytest.mark.parametrize(("prefix", "written"), [(p, w) for p, w, _, _ in PREFIXES if p in KNOWN and "a b" not in w])
def test_a_prefix_is_found_out(prefix: str, written: str) -> None:
    found = Auto("x").detect(f"{written}LOG:  x\n\ty\n{written}LOG:  z\n".encode())
    assert found is not None
    assert isinstance(found[1], Stderr)
    text = f"{written}LOG:  x\n\ty\n{written}LOG:  z\n"
    assert rows(found[1], text) == rows(Stderr(chosen(prefix)), text)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"timestamp":"2026-03-01 12:00:00.250 UTC"}', "format=jsonlog"),
        (
            '2026-03-01 12:00:00.250 UTC,,,77,,69a.4d,1,,2026-03-01 12:00:00 UTC,,0,LOG,00000,"x",,,,,,,,,"",""',
            "format=csvlog",
        ),
        ("2026-03-01 12:00:00.250 UTC [9] LOG kernel file descriptor limit", "format=pgbouncer"),
        ("2026-03-01 12:00:00.250 UTC [9] LOG:  x", "format=stderr log_line_prefix='%m [%p] '"),
        ("Mar  1 12:00:01 db1 postgres[77]: [3-1] LOG:  x", "format=syslog log_line_prefix=''"),
        ("nobody knows", None),
    ],
)
def test_a_format_is_found_out(line: str, told: str | None) -> None:
    form = Auto("x")
    found = form.detect(f"noise\n{line}\n".encode())
    assert (found[0] if found else None) == told
    assert len(rows(form, f"{line}\n")) == 1


def test_a_prefix_that_was_given_comes_first() -> None:
    form = Auto("x", "%u %d ")
    found = rows(form, "ann shop LOG:  x\n")
    assert found[0]["metadata"] == {"user": "ann", "database": "shop"}
