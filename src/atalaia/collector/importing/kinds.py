"""The kinds of lines that are recognised one by one: a pattern, what its groups mean, whose lines they are.

Groups: t, f, z, y (see times), level (a word, a letter or a syslog priority), word (PostgreSQL's severity), pid, user,
database, rest. The patterns are RE2's; a block's lines are tried by the kind that was most frequent before first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from atalaia.collector.formats.words import headings, severities
from atalaia.collector.importing.times import Form

ISO = r"(?P<t>\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](?P<f>\d{1,9}))?"
_ZONE = r"(?P<z>Z|[A-Z]{2,5}|[+-]\d\d(?::?\d\d)?)"
_OPTIONAL_ZONE = rf"(?: ?{_ZONE})?"
_SYSLOG = r"(?P<t>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d)"
_POSTGRES = (
    "LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]?|STATEMENT|DETAIL|HINT|QUERY|CONTEXT|LOCATION|BACKTRACE"
)
# The same words in all languages of PostgreSQL, with their English ones.
_ENGLISH = {
    **{heading.removesuffix(":  "): part for heading, part in headings().items() if heading.endswith(":  ")},
    **severities(),
}
_ALL = "|".join(re.escape(word) for word in sorted(_ENGLISH, key=lambda word: (-len(word), word)))
_UPPER = "TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERROR|ERR|FATAL|CRITICAL|CRIT|SEVERE|ALERT|EMERG|PANIC"
_LOWER = f"{_UPPER.lower()}|{_UPPER.title()}|Note|System"
_WORDS = f"{_UPPER}|{_LOWER}"


@dataclass(frozen=True, slots=True)
class Kind:
    """`service`: whose lines these are, where the kind alone tells it. `text`: the line without the pattern's match.

    `groups` are those of the pattern, in their order.
    """

    name: str
    pattern: str
    form: Form = Form.ISO
    service: str | None = None
    text: bool = False

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the pattern's groups."""
        return tuple(re.findall(r"\(\?P<(\w+)>", self.pattern))

    def stripped(self) -> str:
        r"""The pattern with `word` as its only group: its replacement is `\1:  `."""
        return re.sub(r"\(\?P<(\w+)>", lambda m: "(" if m[1] == "word" else "(?:", self.pattern)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "postgresql",
            rf"^{ISO} (?P<z>[A-Z]{{1,5}}|[+-]\d\d(?::?\d\d)?) \[(?P<pid>\d+)\] "
            rf"(?:(?P<user>[^@ ]*)@(?P<database>[^ ]*) )?(?P<word>{_POSTGRES}):  ",
            service="postgresql",
            text=True,
        ),
        Kind(
            "postgresql with a prefix",
            rf"^{ISO} (?P<z>[A-Z]{{1,5}}|[+-]\d\d(?::?\d\d)?)(?P<rest>[^\n]*?[^\pL\pN_])(?P<word>{_ALL}):  ",
            service="postgresql",
            text=True,
        ),
        Kind("pgbouncer", rf"^{ISO} {_ZONE} \[(?P<pid>\d+)\] (?P<level>LOG|NOISE|DEBUG|INFO|WARNING|ERROR|FATAL) "),
        Kind("go (capnslog)", rf"^{ISO} (?P<level>[A-Z]) \| "),
        Kind(
            "logfmt",
            rf"^(?:[a-z_]+=[^ \"]* )*?(?:ts|time|timestamp|t)=\"?{ISO}{_OPTIONAL_ZONE}",
        ),
        Kind("logfmt behind a time", rf"^{ISO}{_OPTIONAL_ZONE} (?:level=(?P<level>[a-z]+) )?[a-z_]+="),
        Kind(
            "access log",
            r"^\S+ \S+ [^\[\n]*\[(?P<t>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d) (?P<z>[+-]\d{4})\] ",
            Form.CLF,
        ),
        Kind("nginx", rf"^{ISO} \[(?P<level>[a-z]+)\] \d+#\d+: ", service="nginx"),
        Kind(
            "apache",
            r"^\[[A-Z][a-z]{2} (?P<t>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)(?:\.(?P<f>\d+))? (?P<y>\d{4})\] "
            r"\[(?:[\w-]+:)?(?P<level>[a-z]+)\d?\]",
            Form.APACHE,
            service="apache",
        ),
        Kind("syslog (RFC 5424)", rf"^<(?P<level>\d{{1,3}})>1 {ISO}(?P<z>Z|[+-]\d\d:\d\d) "),
        Kind("syslog", rf"^(?:<(?P<level>\d{{1,3}})>)?{_SYSLOG} ", Form.SYSLOG),
        Kind(
            "syslog (ISO time)",
            rf"^(?:<(?P<level>\d{{1,3}})>)?{ISO}(?P<z>Z|[+-]\d\d:\d\d) [\w.-]+ [\w./-]+(?:\[\d+\])?: ",
        ),
        Kind("redis", r"^\d+:[A-Z] (?P<t>\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d)\.(?P<f>\d+) (?P<level>[.*#-]) ",
             Form.REDIS, service="redis"),
        Kind("time and level",
             rf"^\[?{ISO}{_OPTIONAL_ZONE}\]?[^\n]{{0,120}}?[ \t\[(<|\"](?P<level>{_UPPER})(?:[ \t\])>|\":,]|$)"),
        # A word in small letters is a level when it stands in brackets or before a colon.
        Kind("time and [level]",
             rf"^\[?{ISO}{_OPTIONAL_ZONE}\]?[^\n]{{0,120}}?[ \[(<](?P<level>{_LOWER})[\])>:]"),
        Kind("level and time", rf"^\[?(?P<level>{_WORDS})\]?:? +[^\n]{{0,40}}?\[?{ISO}{_OPTIONAL_ZONE}"),
        Kind("time", rf"^\[?{ISO}{_OPTIONAL_ZONE}(?:[\] |:]|$)"),
    )
}  # fmt: skip

UNTIMED = ("postgresql's entrypoint", "logfmt", "level", "plain")
"""Kinds of lines that tell no time, which `untimed` finds; the last one is any."""

CONTINUING = pa.array(["DETAIL", "HINT", "QUERY", "CONTEXT", "STATEMENT", "LOCATION", "BACKTRACE"])
"""Words of PostgreSQL's lines that belong to the line before."""

CONTINUED = (
    r"^(?:[ \t]+\S|Traceback \(most recent|Caused by: |Suppressed: |\.\.\. \d+ more|goroutine \d+ \[|"
    r"Exception in thread |(?:[a-zA-Z_$][\w$]*\.)*[A-Z][\w$]*(?:Error|Exception|Warning|Interrupt|Throwable)(?::|$)|"
    r"During handling of the above|The above exception was)"
)
"""Lines without a time that belong to the line before: a trace's, or indented."""

_ENTRYPOINT = (
    "PostgreSQL Database directory appears to contain a database; Skipping initialization",
    "PostgreSQL init process complete; ready for start up.",
    "The files belonging to this database system will be owned by user",
    "The database cluster will be initialized with",
    "waiting for server to start",
    "Success. You can now start the database server using",
)
ENTRYPOINT = "^(?:" + "|".join(re.escape(text) for text in _ENTRYPOINT) + ")"
LOGFMT_LEVEL = r"(?:^| )(?:level|lvl|severity)=\"?(?P<level>[A-Za-z]+)"
LEADING_LEVEL = rf"^\[?(?P<level>{_WORDS})\]?(?::| |\])"

_LEVELS = {
    "fatal": "fatal panic critical crit emerg emergency alert f c p",
    "error": "error err severe e",
    "warning": "warning warn w #",
    "info": "info information informational notice note log system statement i n * -",
    "debug": "debug debug1 debug2 debug3 debug4 debug5 trace noise d t .",
}
_LEVEL = {word: level for level, words in _LEVELS.items() for word in words.split()}
_PRIORITIES = ("fatal", "fatal", "fatal", "error", "warning", "info", "info", "debug")


def level_of(word: str | None) -> str | None:
    """One of fatal, error, warning, info, debug, of any program's word, letter or syslog priority."""
    if not word:
        return None
    return _PRIORITIES[int(word) % 8] if word.isdigit() else _LEVEL.get(word.lower())


def english(words: pa.Array) -> pa.Array:
    """PostgreSQL's words in any language as their English ones."""
    encoded = words.dictionary_encode()
    known = [_ENGLISH.get(word, word) for word in encoded.dictionary.to_pylist()]
    return pa.array(known, pa.utf8()).take(encoded.indices)


def levels(words: pa.Array) -> pa.Array:
    """The levels (see level_of) of utf8[N]; each distinct word is looked at once."""
    encoded = words.dictionary_encode()
    return pa.array([level_of(word) for word in encoded.dictionary.to_pylist()], pa.utf8()).take(encoded.indices)
