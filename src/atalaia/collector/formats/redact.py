"""Redaction before lines leave the machine: passwords always, with `redact = "literals"` every value of a statement.

A record's line is taken apart by its headings (DETAIL, QUERY, CONTEXT, STATEMENT, in all languages); where SQL stands,
its literals become `?`; where PostgreSQL shows values of a row or of parameters, these do. Rows without any are not
touched: an RE2 over the whole column finds those that may have some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.formats import words
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.sqltext import tokens, until, without_literals


def _phrases(kind: str, *english: str) -> str:
    """The phrases of a kind as alternatives; %s is any text of one line."""
    found = [*english, *words.phrases(kind)]
    return "|".join(r"[^\n]*?".join(re.escape(part) for part in re.split(r"(?:%s)+", text)) for text in found)


def _headings(*kinds: str) -> str:
    found = [re.escape(text) for text, kind in words.headings().items() if not kinds or kind in kinds]
    return "|".join(sorted(found, key=len, reverse=True))


# What stands before a statement at the beginning of a message.
_SQL = _phrases(
    "sql",
    "statement: ",
    "duration: %s ms  statement: ",
    "duration: %s ms  parse %s: ",
    "duration: %s ms  bind %s: ",
    "duration: %s ms  execute %s: ",
    "execute %s: ",
    "prepare: ",
    "duration: %s ms  plan:\n",
)
_PARAMETERS = _phrases(
    "parameters", "parameters: ", 'portal "%s" with parameters: ', "unnamed portal with parameters: "
)
_ROW = _phrases("row", "Failing row contains ", "Partition key of the failing row contains ")
_IN_CONTEXT = _phrases("context", 'SQL statement "', 'SQL expression "', "remote SQL command: ")
_QUOTING = 'invalid input |invalid value |malformed |value "|date/time field value|time zone |"|syntax error'
_HEAD = re.compile(r"[^:\n]{1,40}:  ")
_STATEMENT = re.compile(_SQL)
_AUDIT = re.compile(r"AUDIT: (?:[^,\n]*,){7}")
_HEADING = re.compile(rf"\n(?P<heading>{_headings()})")
_STOP = tokens(rf"\n(?:{_headings()})")
_TEXTS = re.compile(r'"[^\n]*"|»[^\n]*«|«[^\n]*»|“[^\n]*”')
_FOREIGN = re.compile("[«»“”]")
_MARK = re.compile('["«»“”]')
_QUOTED = re.compile('"[^"«»“”]*"|«[^"«»“”]*»|»[^"«»“”]*«|“[^"«»“”]*”')
_MOST = 20  # names in a message
_NEAR = re.compile(r'(?<= near )"(?P<token>[\s\S]*)"')
_PLAIN_TOKEN = re.compile(r"[A-Za-z_\x80-\U0010ffff][^\s'\"$]*|[^\w\s'\"$.]+")
_WHO = r"[^\n:'\"0-9]{0,40}[0-9]{1,10}[ ]?:[ ]"  # "Process 12: "
_PROCESS = re.compile(_WHO)
_PROCESS_END = tokens(rf"\n(?:{_WHO}|{_headings()})")
_ENTRIES = rf"PL/|COPY[ ]|SQL[ ]|JSON|{_IN_CONTEXT}|{_PARAMETERS}"
_ENTRY_END = tokens(rf'["»«”]?(?=\n(?:{_ENTRIES}|{_headings()}))|["»«”]\Z')
_CONTEXT = re.compile(f"{_IN_CONTEXT}|{_PARAMETERS}")
_NEXT_ENTRY = re.compile(rf"\n(?:{_ENTRIES}|{_headings()})")
_COPY = re.compile(r'(?:COPY|JSON)[^\n]{0,400}?[0-9][^\n:"»«]{0,200}: ')
_CANDIDATE = rf"\n|^[^:\n]{{1,40}}:  (?:{_SQL}|AUDIT: |[^\n]*(?:{_QUOTING}))"
_WHOLE = re.compile(r'\{"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^,\n]*,')
_OTHER_QUOTES = re.compile(r'"[^"]*"?')


@dataclass(frozen=True, slots=True)
class WithoutPasswords:
    """A format whose lines show no password."""

    inner: Format

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """See Format."""
        return without_passwords(self.inner(block, now, labels))


@dataclass(frozen=True, slots=True)
class Redacted:
    """A format whose lines show no literal of a statement."""

    inner: Format

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """See Format."""
        return redacted(self.inner(block, now, labels))


_PASSWORD = re.compile(
    r"""(?P<before>password["']?(?:\s|/\*[^*]{0,200}\*/|--[^\n]{0,200}\n){0,20}(?:=>?|:)?\s*)
    (?:(?:e|u&)?'(?:[^'\\]|''|\\[\s\S])*(?:'|\\?\Z)|\$(?P<tag>\w*)\$[\s\S]*?(?:\$(?P=tag)\$|\Z)
    |(?<==)[^\s'"$,;)][^\s'",;)]*)""",
    re.VERBOSE | re.IGNORECASE,
)


def without_passwords(entries: Entries) -> Entries:
    """The same entries; the text behind PASSWORD, of a statement or a connection string, is `?`."""
    rows = pc.match_substring_regex(entries.lines, "(?i)password[^a-z]")
    return _changed(entries, rows, lambda line, _: _PASSWORD.sub(r"\g<before>?", line))


def redacted(entries: Entries) -> Entries:
    """The same entries without literals and values."""
    rows = pc.match_substring_regex(entries.lines, _CANDIDATE)
    severity = column(entries.labels.get("severity"), len(entries))
    return without_passwords(
        _changed(_strays_redacted(entries, severity), pc.and_(rows, pc.is_valid(severity)), redact)
    )


def _changed(entries: Entries, rows: pa.Array, change: Callable[[str, str], str]) -> Entries:
    """The entries with the lines of `rows` (bool[N]) changed; `change` gets line and SQLSTATE."""
    at = np.flatnonzero(rows.to_numpy(zero_copy_only=False))
    if not len(at):
        return entries
    index = pa.array(at)
    states = column(entries.metadata.get("sqlstate"), len(entries)).take(index)
    known: dict[tuple[str, str | None], str] = {}
    lines = []
    for key in zip(entries.lines.take(index).to_pylist(), states.to_pylist(), strict=True):
        if key not in known:
            known[key] = change(key[0], key[1] or "")
        lines.append(known[key])
    return replace(entries, lines=pc.replace_with_mask(entries.lines, rows, pa.array(lines, pa.utf8())))


def _strays_redacted(entries: Entries, severity: pa.Array) -> Entries:
    return _changed(entries, pc.is_null(severity), lambda line, _: redact_stray(line))


def redact_stray(line: str) -> str:
    """A line that is no record, of which nobody knows where it has SQL: no literal, nothing quoted."""
    if _WHOLE.match(line):
        return f"[a torn record of {len(line.encode())} bytes, left out: redact = literals]"
    return without_literals(_OTHER_QUOTES.sub("?", line))


def redact(line: str, state: str = "") -> str:
    """A record's line without literals; `state` is its SQLSTATE, or "" when that is not known."""
    head = _HEAD.match(line)
    if head is None:
        return redact_stray(line)
    message, at = _message(line, head.end(), state)
    found: list[str] = []
    foreign = head[0][:-3] not in words.ENGLISH or not message.isascii() or bool(_FOREIGN.search(message))
    while at < len(line):
        heading = _HEADING.match(line, at)
        assert heading is not None  # _message and _part stop at headings only
        kind = words.headings()[heading["heading"]]
        foreign = foreign or heading["heading"] != f"{kind}:  "
        text, at = _part(line, heading.end(), kind, state)
        found += [heading[0], text]
    parts = "".join(found)
    if foreign and not state:
        message = _foreign(message, parts)
    return f"{head[0]}{message}{parts}"


def _foreign(message: str, parts: str) -> str:
    """A message of an unknown kind in another language: what it quotes is shown when the statement has it, too."""
    between = _QUOTED.sub("", message)
    names = [text[1:-1].strip() for text in _QUOTED.findall(message)]
    kept = len(names) < _MOST and all(re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", parts) for name in names)
    if (kept and not _MARK.search(between)) or _STATEMENT.match(message):
        return message
    marks = [match.start() for match in _MARK.finditer(message)]
    return f'{message[: marks[0]]}"?"{message[marks[-1] + 1 :]}'


def _message(line: str, at: int, state: str) -> tuple[str, int]:
    """The message from `at` on, redacted, and where it ends."""
    statement = _STATEMENT.match(line, at)
    if statement:
        if statement[0].endswith("plan:\n") and not line.startswith("Query Text: ", statement.end()):
            told = "[a plan left out: auto_explain.log_format is not text]"
            return statement[0] + told, _end(line, statement.end())
        sql, end = until(_STOP, line, statement.end())
        return statement[0] + sql, end
    audit = _AUDIT.match(line, at)
    if audit:
        return audit[0] + _audited(line[audit.end() :]), len(line)
    end = _end(line, at)
    text = line[at:end]
    if state[:2] == "22" or (not state and re.match(_QUOTING, text) and not text.startswith("syntax error")):
        text = _TEXTS.sub('"?"', text) if "\n" not in text else _TEXTS.sub('"?"', text.split("\n", 1)[0])
    near = _NEAR.search(text)
    if near and not _PLAIN_TOKEN.fullmatch(near["token"]):
        text = f'{text[: near.start()]}"?"{text[near.end() :]}'
    elif state == "42601" and not near:
        text = _TEXTS.sub('"?"', text)
    return text, end


def _audited(rest: str) -> str:
    """pgaudit's statement and parameters, two values of CSV."""
    quoted = re.match(r'"((?:[^"]|"")*)("?)', rest)
    if not quoted:
        return without_literals(rest)
    sql = without_literals(quoted[1].replace('""', '"')).replace('"', '""')
    after = rest[quoted.end() :]
    return f'"{sql}{quoted[2]}' + (after if after.startswith(",<") else ",?" if after else "")


def _part(line: str, at: int, kind: str, state: str) -> tuple[str, int]:
    """A part of this kind from `at` on, redacted, and where it ends."""
    if kind == "STATEMENT":  # always the last one
        return without_literals(line[at:]), len(line)
    if kind == "QUERY":
        return until(_STOP, line, at)
    if kind == "CONTEXT":
        return _context(line, at)
    if kind == "DETAIL" and re.match(f"{_PARAMETERS}|{_SQL}", line[at : at + 200]):
        return until(_STOP, line, at)
    end = _end(line, at)
    if kind == "DETAIL":
        first = line.find("\n", at, end)
        if first >= 0 and _PROCESS.match(line, first + 1):
            return _processes(line, at, first)
        return _detail(line[at:end], state), end
    return line[at:end], end


def _processes(line: str, at: int, end: int) -> tuple[str, int]:
    """A deadlock's DETAIL: what waits for what, up to `end`, then a statement of each process."""
    found = [line[at:end]]
    while who := _PROCESS.match(line, end + 1):
        sql, end = until(_PROCESS_END, line, who.end())
        found += ["\n", who[0], sql]
    return "".join(found), end


def _detail(text: str, state: str) -> str:
    if re.match(_ROW, text):
        begin = text.find("(")
        return f"{text[:begin]}(?)." if begin >= 0 else "?"
    values = text.find("=(")
    if values >= 0:
        end = text.rfind(")")
        return f"{text[:values]}=(?)" + (text[end + 1 :] if end > values else "")
    if state[:2] == "22" or text.startswith(('Token "', "Array value", "Expected", "Unexpected", "Junk")):
        text = _TEXTS.sub('"?"', text)
    return re.sub(r"'(?:[^']|'')*(?:'|\Z)", "?", text)


def _context(line: str, at: int) -> tuple[str, int]:
    """A CONTEXT: an entry a line, but those with SQL may have several."""
    found: list[str] = []
    while True:
        marker = _CONTEXT.match(line, at)
        if marker:
            sql, at = until(_ENTRY_END, line, marker.end())
            closing = line[at : at + 1] if line[at : at + 1] != "\n" else ""
            found += [marker[0], sql, closing]
            at += len(closing)
        else:
            following = _NEXT_ENTRY.search(line, at)
            end = following.start() if following else len(line)
            copied = _COPY.match(line, at, end)
            found.append(f'{copied[0]}"?"' if copied else line[at:end])
            at = end
        if at >= len(line) or _HEADING.match(line, at):
            return "".join(found), at
        found.append("\n")
        at += 1


def _end(line: str, at: int) -> int:
    """Where the part that begins at `at` ends: before the next heading."""
    heading = _HEADING.search(line, at)
    return heading.start() if heading else len(line)
