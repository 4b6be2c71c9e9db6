"""The document's sentences (texts.toml) and how its values are written in each language."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from atalaia.diagnosis.language import Language, moment, number
from atalaia.environment.units import show_size
from atalaia.runbook.facts import Unknown
from atalaia.runbook.markdown import code, plain


@cache
def texts(language: Language) -> Mapping[str, str]:
    """Every sentence in `language`."""
    file = resources.files("atalaia.runbook").joinpath("texts.toml").read_text(encoding="utf-8")
    table: dict[str, dict[str, str]] = tomllib.loads(file)
    return {key: translations[language] for key, translations in table.items()}


def say(language: Language, key: str, **values: str) -> str:
    """Sentence `key` with `values` (Markdown already) put in."""
    return texts(language)[key].format_map(values)


def unknown(value: Unknown, language: Language) -> str:
    """`value` as the reason why there is none."""
    return say(language, "unknown", because=plain(value.because))


def shown(value: str | Unknown, language: Language, *, as_code: bool = False) -> str:
    """A text as Markdown, plain or as code."""
    if isinstance(value, Unknown):
        return unknown(value, language)
    return code(value) if as_code else plain(value)


def shown_count(value: int | Unknown, language: Language) -> str:
    """A number with thousands separated."""
    return unknown(value, language) if isinstance(value, Unknown) else number(value, language)


def shown_size(value: int | Unknown, language: Language) -> str:
    """A number of bytes in the unit that suits it."""
    if isinstance(value, Unknown):
        return unknown(value, language)
    return show_size(value) if language == "en" else show_size(value).replace(".", ",")


def shown_time(value: int | Unknown, language: Language) -> str:
    """A time given in ns since 1970."""
    return unknown(value, language) if isinstance(value, Unknown) else moment(value)
