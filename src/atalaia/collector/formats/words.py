"""The words of PostgreSQL's logs in all languages (`words.yaml`) with their English ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

_SEVERITIES = ("LOG", "ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "INFO", "DEBUG")
_PARTS = ("DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "BACKTRACE", "STATEMENT")
ENGLISH = frozenset(_SEVERITIES)
# What is left of a word that the server's locale cannot write: nobody knows which it was.
LOST = r"\?{2,20}"


def data(name: str) -> Any:
    """A data file of this folder."""
    return yaml.safe_load(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


@cache
def _languages() -> tuple[Mapping[str, Any], ...]:
    return tuple(data("words.yaml").values())


@cache
def severities() -> Mapping[str, str]:
    """Each word for a severity -> the English one; DEBUG1 to DEBUG5 are DEBUG."""
    found = {word: word for word in _SEVERITIES} | {f"DEBUG{level}": "DEBUG" for level in range(1, 6)}
    for language in _languages():
        found |= language.get("severities", {})
    return found


@cache
def headings() -> Mapping[str, str]:
    """Each heading of a record's part, with its colon and spaces -> the English word."""
    found = {f"{word}:  ": word for word in _PARTS}
    for language in _languages():
        # One catalogue has a third space: it is taken as the text's.
        found |= {re.sub(" {2,}$", "  ", heading): part for heading, part in language.get("parts", {}).items()}
    return found


@cache
def phrases(kind: str) -> tuple[str, ...]:
    """All languages' phrases of a kind (`unknown`, `sql`, `context`, `row`, `parameters`, `character`)."""
    return tuple(dict.fromkeys(phrase for language in _languages() for phrase in language.get(kind, ())))


def english(words: pa.Array) -> pa.Array:
    """Severities in any language as their English words (utf8); a word that is not known stays, LOST is null."""
    known = severities()
    encoded = words.dictionary_encode()
    dictionary = [None if word[:1] == "?" else known.get(word, word) for word in encoded.dictionary.to_pylist()]
    return pa.array(dictionary, pa.utf8()).take(encoded.indices)


def without_unknown(values: pa.Array) -> pa.Array:
    """Names with null for none: empty, or what PostgreSQL writes for a name that it does not know yet."""
    none = pa.array(["", "[unknown]", *phrases("unknown")])
    return pc.if_else(pc.is_in(values, none), None, values)
