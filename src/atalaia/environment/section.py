"""What the sections of atalaia.toml are made of: strict tables, durations, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from atalaia.environment.units import parse_duration, parse_size


class Section(BaseModel):
    """A table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _duration(text: str) -> str:
    if parse_duration(text) <= 0:
        raise ValueError(f"{text!r} is not longer than nothing")
    return text


def _size(text: str) -> str:
    if parse_size(text) <= 0:
        raise ValueError(f"{text!r} is not larger than nothing")
    return text


def between(parse: Callable[[str], int], least: str, most: str) -> AfterValidator:
    """A duration or size from `least` to `most`, both included."""

    def check(text: str) -> str:
        if not parse(least) <= parse(text) <= parse(most):
            raise ValueError(f"{text!r} is not from {least} to {most}")
        return text

    return AfterValidator(check)


def size_between(least: str, most: str) -> AfterValidator:
    """A size from `least` to `most`, both included."""
    return between(parse_size, least, most)


DurationText = Annotated[str, AfterValidator(_duration)]
SizeText = Annotated[str, AfterValidator(_size)]
