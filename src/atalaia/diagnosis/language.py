"""The languages that people read, and how each writes numbers, times and the fixed phrases of a diagnosis."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Literal, get_args

Language = Literal["en", "pt-BR"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@cache
def phrases(language: Language) -> Mapping[str, str]:
    """The fixed phrases of `language`, from knowledge/phrases.toml."""
    text = resources.files("atalaia.diagnosis.knowledge").joinpath("phrases.toml").read_text(encoding="utf-8")
    table: dict[str, dict[str, str]] = tomllib.loads(text)
    return {key: translations[language] for key, translations in table.items()}


def say(language: Language, key: str, **values: object) -> str:
    """Phrase `key` with its placeholders replaced; KeyError for an unknown phrase or a missing value."""
    return phrases(language)[key].format_map(values)


def number(value: float, language: Language, digits: int = 0) -> str:
    """`value` with the language's thousands and decimal signs."""
    text = f"{value:,.{digits}f}"
    return text if language == "en" else text.translate(str.maketrans(",.", ".,"))


def seconds(value: float, language: Language) -> str:
    """A time span given in seconds, with the precision that its size deserves."""
    if value < 1:
        return f"{number(value * 1000, language)} ms"
    if value < 120:
        return f"{number(value, language, 1)} s"
    if value < 7200:
        return f"{number(value / 60, language, 1)} min"
    if value < 172_800:
        return f"{number(value / 3600, language, 1)} h"
    return f"{number(value / 86400, language, 1)} d"


def moment(ts: int) -> str:
    """A time given in ns since 1970, as UTC to the second."""
    return datetime.fromtimestamp(ts // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
