"""`| unwrap label`: a label's value as a sample, in SQL and for one entry."""

from __future__ import annotations

from collections.abc import Callable

from . import values
from .entry import Entry
from .extract import DETAILS, ERROR
from .sqltext import literal
from .tree import Unwrap

SAMPLE_ERROR = "SampleExtractionErr"


def kind_of(stage: Unwrap) -> str:
    """How the value is read: number, duration or size."""
    return {None: "number", "bytes": "size"}.get(stage.conversion, "duration")


def read(text: str, kind: str) -> float | None:
    """A sample: a number, seconds or bytes; None for what cannot be read."""
    found = values.READERS[kind](text)
    if found is None:
        return None
    return found / 1e9 if kind == "duration" else float(found)


def sample_error(text: str, value: str) -> str:
    """SQL of the error that unwrap gives an entry, by the SQL of the text and of its value."""
    return f"CASE WHEN {text} IS NOT NULL AND {value} IS NULL THEN {literal(SAMPLE_ERROR)} END"


def unwrap(stage: Unwrap) -> Callable[[Entry], bool]:
    """The stage for one entry: without the label, or with an empty one, it does not pass."""
    kind = kind_of(stage)

    def run(entry: Entry) -> bool:
        text = entry.get(stage.label)
        if not text:
            return False
        value = read(text, kind)
        if value is None:
            entry.fault = {ERROR: SAMPLE_ERROR, DETAILS: values.complaint(text, kind)}
        else:
            entry.value = value
        return True

    return run
