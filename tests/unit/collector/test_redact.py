from __future__ import annotations

import re
import time

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.redact import Redacted, WithoutPasswords, redact
from atalaia.collector.formats.sqltext import without_literals
from atalaia.collector.formats.stderr import stderr

SECRET = "Zq7Xv"
# What a literal holds without ending it, by what it is enclosed in.
INSIDE = st.lists(
    st.sampled_from(
        [SECRET, " ", "\n", "-- ", "/*", "*/", '"', "$$", "$a$", ";", "é", "\nHINT:  ", "\nSTATEMENT:  ", "1"]
    ),
    max_size=5,
).map("".join)
TEXTS = [
    INSIDE.map(lambda s: "'" + s + "'"),
    INSIDE.map(lambda s: "'" + s + "''" + s + "'"),
    INSIDE.map(lambda s: "E'" + s + "\\'" + s + "\\\\'"),
    INSIDE.map(lambda s: "u&'" + s + "'"),
    INSIDE.filter(lambda s: "$" not in s).map(lambda s: "$$" + s + "$$"),
    INSIDE.filter(lambda s: "$t" not in s and not s.endswith("$")).map(lambda s: "$tag$" + s + "$tag$"),
    st.sampled_from(["b'0110'", "X'1fF'", "12345", "4711.25", ".4711", "1e-4711", "0x4711", "4_711", "N'Zq7Xv'"]),
    INSIDE.filter(lambda s: "*" not in s and "/" not in s).map(lambda s: "/* " + s + " */"),
    INSIDE.filter(lambda s: "\n" not in s).map(lambda s: "-- " + s + "\n"),
]
KEPT = [
    "SELECT",
    "t1",
    '"we\'ird ""x"""',
    "a.b",
    "$1",
    "(",
    ")",
    ",",
    "=",
    "::text",
    "NULL",
    "é2",
    "foo$bar",
    "[",
    "]",
    ";",
]


@settings(max_examples=300)
@given(st.lists(st.one_of(st.sampled_from(KEPT), *TEXTS), max_size=12))
@example(["'a\\'", "'Zq7Xv'"])
def test_no_literal_survives_and_all_else_does(parts: list[str]) -> None:
    sql = " ".join(parts)
    found = without_literals(sql)
    assert SECRET not in found
    assert "4711" not in found
    if not any("\\'" in part and not part.startswith("E") for part in parts):
        kept = " ".join(part for part in parts if part in KEPT)
        assert re.sub(r"\s+", " ", found.replace("?", " ")).strip() == kept
    assert without_literals(found) == found
    for cut in range(0, len(sql), 7):
        assert SECRET not in without_literals(sql[:cut])


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("INSERT INTO t VALUES (-1, 'a', U&'\\0041' UESCAPE '!')", "INSERT INTO t VALUES (-?, ?, ? UESCAPE ?)"),
        ("SELECT 'a'\n'b', 1..10, t1.c2 FROM s3.t4", "SELECT ?\n?, ?, t1.c2 FROM s3.t4"),
        ("SELECT 'open", "SELECT ?"),
        ("SELECT $x$ open", "SELECT ?"),
        ("SELECT E'open\\", "SELECT ?"),
        ("SELECT a /* open 'x'", "SELECT a  "),
        ("SELECT a /* one /* two */ 'x' */, 'y'", "SELECT a  "),  # nested: not told apart, so nothing behind is shown
        ("SELECT 'C:\\' , 'x'", "SELECT ?"),  # where it ends is decided by standard_conforming_strings
        ('SELECT "open, 1', "SELECT ?"),
        ("SELECT 1$$x$$, a$b$c, $1", "SELECT ?, a$b$c, $1"),
        ("a-b /c /d - -1", "a-b /c /d - -?"),
        (
            "Seq Scan  (cost=0.00..2.50 rows=6 width=3) (actual rows=1.00 loops=1)\n  Filter: (a = 5)",
            "Seq Scan  (cost=0.00..2.50 rows=6 width=3) (actual rows=1.00 loops=1)\n  Filter: (a = ?)",
        ),
    ],
)
def test_statements(sql: str, shown: str) -> None:
    assert without_literals(sql) == shown


LINES = [
    (
        'ERROR:  duplicate key value violates unique constraint "t_pkey"\nDETAIL:  Key (id)=(5, a)b) already exists.\n'
        "STATEMENT:  INSERT INTO t VALUES (5, 'x\nHINT:  y')",
        'ERROR:  duplicate key value violates unique constraint "t_pkey"\nDETAIL:  Key (id)=(?) already exists.\n'
        "STATEMENT:  INSERT INTO t VALUES (?, ?)",
    ),
    (
        "LOG:  execute <unnamed>: SELECT $1, 'a\nDETAIL:  b'\nDETAIL:  parameters: $1 = 'se''cret', $2 = NULL",
        "LOG:  execute <unnamed>: SELECT $1, ?\nDETAIL:  parameters: $1 = ?, $2 = NULL",
    ),
    ("LOG:  duration: 1.25 ms  statement: SELECT 42", "LOG:  duration: 1.25 ms  statement: SELECT ?"),
    ("LOG:  duration: 1.25 ms", "LOG:  duration: 1.25 ms"),
    ("LOG:  Dauer: 1,5 ms  Anweisung: SELECT 42", "LOG:  Dauer: 1,5 ms  Anweisung: SELECT ?"),
    ("СООБЩЕНИЕ:  оператор: SELECT 42", "СООБЩЕНИЕ:  оператор: SELECT ?"),
    (
        "FEHLER:  doppelt\nDETAIL:  Schlüssel »(id)=(5)« existiert bereits.\nANWEISUNG:  INSERT INTO t VALUES (5)",
        "FEHLER:  doppelt\nDETAIL:  Schlüssel »(id)=(?)« existiert bereits.\nANWEISUNG:  INSERT INTO t VALUES (?)",
    ),
    (
        "ERROR:  deadlock detected\nDETAIL:  Process 12 waits for ShareLock on transaction 5; blocked by process 13.\n"
        "Process 12: UPDATE t SET a = 'x\n1'\nProcess 13: SELECT 2\nHINT:  See server log for query details.",
        "ERROR:  deadlock detected\nDETAIL:  Process 12 waits for ShareLock on transaction 5; blocked by process 13.\n"
        "Process 12: UPDATE t SET a = ?\nProcess 13: SELECT ?\nHINT:  See server log for query details.",
    ),
    (
        'ERROR:  invalid input syntax for type integer: "a"b"\nCONTEXT:  COPY t, line 7, column a: "a\nb"\nHINT:  S',
        'ERROR:  invalid input syntax for type integer: "?"\nCONTEXT:  COPY t, line 7, column a: "?"\nHINT:  S',
    ),
    (
        "ERROR:  x\nDETAIL:  Failing row contains (1, secret, null).\nQUERY:  SELECT 'a\nCONTEXT:  b'\n"
        'CONTEXT:  SQL statement "INSERT INTO "T" VALUES (1, \'x\')"\nPL/pgSQL function f(int) line 3 at SQL statement',
        "ERROR:  x\nDETAIL:  Failing row contains (?).\nQUERY:  SELECT ?\n"
        'CONTEXT:  SQL statement "INSERT INTO "T" VALUES (?, ?)"\nPL/pgSQL function f(int) line 3 at SQL statement',
    ),
    (
        'LOG:  AUDIT: SESSION,1,1,WRITE,INSERT,TABLE,t,"INSERT INTO ""T"" VALUES (\'x\', 1)",<none>',
        'LOG:  AUDIT: SESSION,1,1,WRITE,INSERT,TABLE,t,"INSERT INTO ""T"" VALUES (?, ?)",<none>',
    ),
    ("LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,SELECT 1,'x'", "LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,SELECT ?,?"),
    (
        "ERROR:  syntax error at or near \"'x'\" at character 8\nSTATEMENT:  SELEC 'x'",
        'ERROR:  syntax error at or near "?" at character 8\nSTATEMENT:  SELEC ?',
    ),
    ('ERROR:  syntax error at or near "FROM" at character 8', 'ERROR:  syntax error at or near "FROM" at character 8'),
    ('ERROR:  relation "t2" does not exist at character 15', 'ERROR:  relation "t2" does not exist at character 15'),
    (
        "LOG:  duration: 1 ms  plan:\nQuery Text: SELECT 'x'\nSeq Scan on t  (cost=0.00..1.00 rows=6 width=36)",
        "LOG:  duration: 1 ms  plan:\nQuery Text: SELECT ?\nSeq Scan on t  (cost=0.00..1.00 rows=6 width=36)",
    ),
    (
        'LOG:  duration: 1 ms  plan:\n{"Query Text": "SELECT \'x\'"}',
        "LOG:  duration: 1 ms  plan:\n[a plan left out: auto_explain.log_format is not text]",
    ),
    ("LOG:  checkpoint complete: wrote 3 buffers (0.0%)", "LOG:  checkpoint complete: wrote 3 buffers (0.0%)"),
]


@pytest.mark.parametrize(("line", "shown"), LINES)
def test_records(line: str, shown: str) -> None:
    assert redact(line) == shown
    assert redact(shown) == shown


SQL = st.lists(st.one_of(st.sampled_from(KEPT), *TEXTS), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(SQL, SQL, INSIDE, st.booleans(), st.sampled_from(["", "23505", "42601", "22P02"]))
def test_no_secret_survives_in_any_part(first: str, second: str, value: str, logged: bool, state: str) -> None:
    line = f"LOG:  duration: 1.5 ms  execute a: {first}" if logged else "ERROR:  x"
    keys, deadlock = (
        f"Key (a)=({value}) already exists.",
        f"Process 1 waits for x.\nProcess 1: {first}\nProcess 2: {second}",
    )
    line += f"\nDETAIL:  {deadlock if value == '' else keys}" if not logged else ""
    line += f"\nQUERY:  {second}" if not logged else ""
    line += f'\nCONTEXT:  SQL statement "{first}"\nPL/pgSQL function f() line 3 at SQL statement'
    line += f"\nSTATEMENT:  {second}"
    found = redact(line, state)
    # A heading within a row's value cannot be told from a real one.
    if "\n" not in value:
        assert SECRET not in found
    assert found.split(":  ")[0] == line.split(":  ")[0]


@pytest.mark.parametrize(
    "text",
    [
        "ERROR:  x\nDETAIL:  " + "1" * 200_000,
        "ERROR:  x\nDETAIL:  " + "=(" * 100_000,
        "ERROR:  x\nDETAIL:  " + "1:" * 100_000,
        "LOG:  statement: " + "password/*" * 20_000,
        "LOG:  statement: " + "password " * 20_000,
        "LOG:  statement: " + "/*" * 100_000,
        "LOG:  statement: " + "$a$" * 66_000,
        "LOG:  statement: " + "'" * 200_001,
        "LOG:  statement: " + '"' * 200_001,
        "LOG:  statement: " + "1.e+" * 50_000,
        "ERROR:  é " + '"a" ' * 50_000 + "\nSTATEMENT:  " + "b " * 50_000,
        "ERROR:  x\nCONTEXT:  COPY " + "1" * 200_000,
        "ERROR:  x" + "\nHINT:  y" * 20_000,
        'ERROR:  syntax error at or near "' + ' near "' * 30_000,
        "LOG:  duration: " + " ms  " * 40_000,
        "LOG:  AUDIT: " + "," * 200_000,
    ],
    ids=lambda text: text[:30],
)
def test_no_line_takes_long(text: str) -> None:
    began = time.process_time()
    redact(text)
    through(WithoutPasswords(stderr), text.replace("\n", "\n\t"))
    assert time.process_time() - began < 2


def test_the_sqlstate_tells_where_values_are() -> None:
    assert redact("FEHLER:  ungültige Eingabesyntax: »abc«", "22P02") == 'FEHLER:  ungültige Eingabesyntax: "?"'
    assert redact("FEHLER:  Syntaxfehler bei »'x'«", "42601") == 'FEHLER:  Syntaxfehler bei "?"'


def test_without_a_sqlstate_only_what_the_statement_has_is_quoted() -> None:
    rest = "\nANWEISUNG:  SELECT a FROM t WHERE b = '%s'"
    assert redact("FEHLER:  ungültig: »a»b«c« bei Zeichen 8" + rest % "a»b«c") == (
        'FEHLER:  ungültig: "?" bei Zeichen 8' + rest.replace("'%s'", "?")
    )
    assert redact("ERROR:  no existe «t»") == 'ERROR:  no existe "?"'
    kept = "FEHLER:  Relation »t« existiert nicht\nANWEISUNG:  SELECT a FROM t"
    assert redact(kept) == kept


def through(form: Redacted | WithoutPasswords, *lines: str) -> list[str]:
    found = form("".join(f"{line}\n" for line in lines).encode(), 0, {})
    pa.Table.from_batches([found.record_batch()]).validate(full=True)
    return list(found.lines.to_pylist())


def test_whole_columns_and_torn_records() -> None:
    record = '{"timestamp":"2026-03-01 12:00:00.250 UTC","error_severity":"%s","message":"%s"}'
    found = through(
        Redacted(jsonlog),
        record % ("LOG", "statement: SELECT 1"),
        record % ("LOG", "port 5432"),
        record[:60],
        record % ("ERROR", "statement: x"),
        "shell 'x' said 1",
    )
    assert found == [
        "LOG:  statement: SELECT ?",
        "LOG:  port 5432",
        "[a torn record of 60 bytes, left out: redact = literals]",
        "ERROR:  statement: x",
        "shell ? said ?",
    ]
    assert through(Redacted(stderr), "LOG:  statement: SELECT 1,", "\t'a'") == ["LOG:  statement: SELECT ?,\n?"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("statement: ALTER ROLE a PASSWORD 'x''y' VALID", "statement: ALTER ROLE a PASSWORD ? VALID"),
        (
            "statement: create user b encrypted password /* */ $q$x$q$",
            "statement: create user b encrypted password /* */ ?",
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x user=u'",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=? user=u'",
        ),
        ("OPTIONS (user 'u', password E'z\\'z')", "OPTIONS (user 'u', password ?)"),
        ("ALTER ROLE a PASSWORD 'cut of", "ALTER ROLE a PASSWORD ?"),
        ('password authentication failed for user "x"', 'password authentication failed for user "x"'),
        ("ALTER ROLE a PASSWORD NULL", "ALTER ROLE a PASSWORD NULL"),
    ],
)
def test_passwords_never_leave(line: str, shown: str) -> None:
    assert through(WithoutPasswords(stderr), f"LOG:  {line}") == [f"LOG:  {shown}"]
    assert through(WithoutPasswords(stderr), f"LOG:  {shown}") == [f"LOG:  {shown}"]
