"""`log_line_prefix` as an expression (RE2) that reads what it has written. Its escapes: PostgreSQL's manual."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from atalaia.collector.formats import words

_ZONE = r"[A-Za-z0-9+:_-]+"
_DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_ANY = r".*?"
# Escape -> our names and the expression of what is written for it.
_ESCAPES: dict[str, tuple[tuple[str, ...], str]] = {
    "a": (("application",), rf"(?P<application>{_ANY})"),
    "u": (("user",), rf"(?P<user>{_ANY})"),
    "d": (("database",), rf"(?P<database>{_ANY})"),
    "r": (("remote_host", "remote_port"), r"(?P<remote_host>[^\s(]*?)(?:\((?P<remote_port>\d*)\))?"),
    "h": (("remote_host",), r"(?P<remote_host>[^\s(]*?)"),
    "L": ((), r"[^\s(]*?"),
    "b": (("backend_type",), rf"(?P<backend_type>{_ANY})"),
    "p": (("pid",), r"(?P<pid>\d+)"),
    "P": (("leader_pid",), r"(?P<leader_pid>\d*)"),
    "t": (("local", "zone"), rf"(?P<local>{_DATE}) (?P<zone>{_ZONE})"),
    "m": (("local", "zone"), rf"(?P<local>{_DATE}\.\d{{3}}) (?P<zone>{_ZONE})"),
    "n": (("epoch",), r"(?P<epoch>\d+\.\d{3})"),
    "i": (("command_tag",), rf"(?P<command_tag>{_ANY})"),
    "e": (("sqlstate",), r"(?P<sqlstate>[0-9A-Z]{5})"),
    "c": (("session",), r"(?P<session>[0-9a-f]+\.[0-9a-f]+)"),
    "l": (("session_line",), r"(?P<session_line>\d+)"),
    "s": (("session_start",), rf"(?P<session_start>{_DATE} {_ZONE})"),
    "v": (("virtual_transaction",), r"(?P<virtual_transaction>(?:-?\d+/\d+)?)"),
    "x": (("transaction",), r"(?P<transaction>\d+)"),
    "Q": (("query_id",), r"(?P<query_id>-?\d+)"),
}
_ESCAPE = re.compile(r"%(-?\d*)(.)", re.DOTALL)
# Those of the tools and services that people have their logs from; the default of PostgreSQL is the first.
KNOWN = (
    "%m [%p] ",
    "%m [%p] %q%u@%d ",  # Debian, Atalaia
    "%m [%p] %q%a %u@%d ",
    "%m [%p] %q[user=%u,db=%d,app=%a] ",
    "%m [%p] user=%u,db=%d,app=%a,client=%h ",
    "%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",  # pgBadger
    "%m [%p]: [%l-1] db=%d,user=%u ",  # Cloud SQL
    "%m [%p]: user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: [%l-1] user=%u,db=%d ",
    "%t [%p-%l] %q%u@%d ",
    "%t [%p] %q%u@%d ",
    "%t [%p] ",
    "%t:%r:%u@%d:[%p]:",  # Amazon RDS
    "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:",  # Amazon RDS since 2022
    "%t-%c-",  # Azure
    "%t-%c-user=%u,db=%d,app=%a,client=%h-",
    "< %m >",
    "< %t >",
    "%m ",
    "%t ",
    "[%p] ",
    "",
)


class PrefixError(ValueError):
    """A log_line_prefix cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """`pattern`: prefix and the severity or heading that follows, anchored at the line's beginning.

    Its groups: those of `names`, then `word` (a severity) or `part` (a heading with colon and spaces); `prefix` is
    all before these. When the prefix begins with a time of `fixed` bytes (0: it does not), `rest` is the pattern of
    what stands behind these bytes.
    """

    text: str
    pattern: str
    names: tuple[str, ...]
    fixed: int = 0
    rest: str = ""


@cache
def compile_prefix(text: str) -> Prefix:
    """Raises PrefixError for an escape that PostgreSQL does not have."""
    pattern, names, at, optional = "", list[str](), 0, 0
    for match in _ESCAPE.finditer(text):
        pattern += re.escape(text[at : match.start()])
        at = match.end()
        width, escape = match[1], match[2]
        if escape == "%" and not width:
            pattern += "%"
        elif escape == "q":
            pattern += "(?:"
            optional += 1
        elif escape in _ESCAPES:
            known, body = _ESCAPES[escape]
            for name in known:
                if name in names:  # the first of two tells it
                    body = body.replace(f"?P<{name}>", "?:")
            names += [name for name in known if name not in names]
            pattern += rf" *{body} *" if width.strip("-0") else body
        else:
            raise PrefixError(f"%{escape} is no escape of log_line_prefix")
    rest = text[at:]
    if rest.endswith("%") and not rest.endswith("%%"):
        raise PrefixError("it ends with a % that escapes nothing")
    pattern += re.escape(rest) + ")?" * optional
    # Continued text may end in a space that a person's copy has lost.
    word = "|".join(re.escape(w) for w in sorted(words.severities(), key=len, reverse=True)) + "|" + words.LOST
    part = "|".join(re.escape(w) for w in sorted(words.headings(), key=len, reverse=True))
    behind = rf"(?:(?P<word>{word}):  |(?P<part>{part}))"
    fixed, tail = 0, ""
    for start, size in ((rf"(?P<local>{_DATE}\.\d{{3}})", 23), (rf"(?P<local>{_DATE})", 19)):
        if pattern.startswith(start):
            fixed, tail = size, pattern[len(start) :]
            break
    return Prefix(
        text,
        f"^(?P<prefix>{pattern}){behind}",
        tuple(names),
        fixed,
        f"^(?P<prefix>{tail}){behind}" if fixed else "",
    )


@cache
def chosen(given: str | None) -> tuple[Prefix, ...]:
    """What a server with this log_line_prefix writes, and before it has read its settings: the default, or none."""
    texts: Sequence[str] = [given, KNOWN[0], ""] if given is not None else [KNOWN[0], ""]
    return tuple(compile_prefix(text) for text in dict.fromkeys(texts))
