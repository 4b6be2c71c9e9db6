"""Reads the knowledge files and refuses them when anything in them is wrong or half translated."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

import re2
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from atalaia.diagnosis.language import LANGUAGES, Language
from atalaia.diagnosis.message import SEVERITIES

# Where two patterns match one message the first counts, so what is urgent comes first.
FILES = ("storage", "connections", "server", "wal", "locks", "data", "sql")
Importance = Literal["emergency", "problem", "warning", "notice"]
IMPORTANCE: tuple[Importance, ...] = ("emergency", "problem", "warning", "notice")
METADATA = (
    *("pid", "user", "database", "application", "remote_host", "remote_port", "session", "session_line"),
    *("sqlstate", "backend_type", "command_tag", "transaction", "virtual_transaction", "query_id"),
)
# What `fill` makes of metadata and of the environment.
DERIVED = ("server", "port", "server_host", "cidr", "hba_line", "number")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Text:
    """What a person reads of a kind of message. `many` is added when `many_at` different values are seen."""

    title: str
    cause: str
    remedy: tuple[str, ...]
    many: str = ""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Kind:
    """One kind of message.

    `regex` (RE2) is searched in the bare message; `find` (RE2, no anchors) is what a LOG message is asked for
    by in LogQL. An empty `sqlstate` means any. `by` are the values that tell incidents of this kind apart.
    `follows` names kinds that explain this one when they come at the same time; `normal_span` is the time in
    seconds that this kind may last and still be normal.
    """

    id: str
    regex: str
    severities: tuple[str, ...]
    importance: Importance
    texts: Mapping[Language, Text]
    sqlstate: tuple[str, ...] = ()
    needs_sqlstate: bool = False
    find: str = ""
    role: Literal["primary", "secondary", "routine"] = "primary"
    by: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    normal_span: float = 0
    many_field: str = ""
    many_at: int = 0

    @property
    def groups(self) -> frozenset[str]:
        """Names of the pattern's named groups."""
        return frozenset(re.findall(r"\(\?P<([a-z_]+)>", self.regex))


@cache
def knowledge() -> tuple[Kind, ...]:
    """Every known kind of message, in order of precedence; ValueError names each fault of the files."""
    folder = resources.files("atalaia.diagnosis.knowledge")
    texts = [folder.joinpath(f"{name}.toml").read_text(encoding="utf-8") for name in FILES]
    return load([raw for text in texts for raw in tomllib.loads(text)["message"]])


def load(messages: list[dict[str, Any]]) -> tuple[Kind, ...]:
    """Kinds from the `message` tables of a knowledge file; ValueError lists every fault."""
    tables = [
        {key: value for key, value in raw.items() if key not in LANGUAGES}
        | {"texts": {language: raw[language] for language in LANGUAGES if language in raw}}
        for raw in messages
    ]
    kinds = TypeAdapter(tuple[Kind, ...]).validate_python(tables)
    faults = [f"{kind.id}: {fault}" for kind in kinds for fault in _faults(kind, kinds)]
    if faults:
        raise ValueError("knowledge files: " + "; ".join(faults))
    return kinds


def _faults(kind: Kind, kinds: tuple[Kind, ...]) -> list[str]:
    faults = []
    ids = [other.id for other in kinds]
    if ids.count(kind.id) > 1:
        faults.append("the id is given twice")
    for pattern in (kind.regex, kind.find):
        try:
            re2.compile(pattern)
        except re2.error as error:
            faults.append(f"{pattern!r} is not RE2: {error}")
    known = {*METADATA, *DERIVED, *kind.groups}
    faults += [f"unknown severity {name}" for name in kind.severities if name not in SEVERITIES]
    faults += [f"{code!r} is not a SQLSTATE" for code in kind.sqlstate if not re.fullmatch(r"[0-9A-Z]{5}", code)]
    faults += [f"unknown field {name!r}" for name in (*kind.by, *filter(None, [kind.many_field])) if name not in known]
    faults += [f"follows the unknown {name!r}" for name in kind.follows if name not in ids]
    if not kind.severities:
        faults.append("no severity")
    if "LOG" in kind.severities and not kind.find:
        faults.append("LOG messages need `find`, or they are never asked for")
    if "`" in kind.find:
        faults.append("`find` goes into a LogQL string between backquotes")
    if set(kind.texts) != set(LANGUAGES):
        return [*faults, f"texts in {sorted(kind.texts)}, wanted {sorted(LANGUAGES)}"]
    used = {}
    for language, text in kind.texts.items():
        sentences = (text.title, text.cause, *text.remedy, *([text.many] if kind.many_field else []))
        if not text.remedy or not all(sentence.strip() for sentence in sentences):
            faults.append(f"an empty text in {language}")
        used[language] = {name for sentence in sentences for name in PLACEHOLDER.findall(sentence)}
        faults += [f"unknown placeholder {name!r} in {language}" for name in used[language] - known]
    if len({frozenset(names) for names in used.values()}) > 1:
        faults.append(f"languages use different placeholders: {used}")
    if len({len(text.remedy) for text in kind.texts.values()}) > 1:
        faults.append("languages have different numbers of remedies")
    return faults


@cache
def sqlstate_classes() -> Mapping[str, Mapping[str, str]]:
    """SQLSTATE's first two characters to the class's name in each language."""
    folder = resources.files("atalaia.diagnosis.knowledge")
    return tomllib.loads(folder.joinpath("sqlstate.toml").read_text(encoding="utf-8"))
