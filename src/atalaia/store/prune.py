"""Which row groups a query needs, by what indexes and templates tell; and the record of why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from atalaia.store.decide import LineCondition, LineTest, Verdict, decide, required_texts
from atalaia.store.index import SegmentIndex
from atalaia.store.snapshot import Part
from atalaia.store.tokens import inner_tokens


@dataclass(frozen=True, slots=True)
class Question:
    """What a query wants: entries of the streams `ids` in [start, end) ns whose line passes all of `lines`."""

    ids: np.ndarray
    start: int
    end: int
    lines: tuple[LineCondition, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The row groups of a part that are read. Arrays have an element for each row group of the file.

    `certain`: nothing in the group needs its line looked at; `foreign`: it also has lines that templates exclude.
    `passed_over` counts the row groups that are not read, by the reason.
    """

    part: Part
    index: SegmentIndex
    read: np.ndarray
    certain: np.ndarray
    foreign: np.ndarray
    passed_over: Mapping[str, int]


def verdicts(indexes: Sequence[SegmentIndex], lines: tuple[LineCondition, ...]) -> dict[str, Verdict]:
    """What each template of the indexes tells of the conditions."""
    letters: dict[str, set[str]] = {}
    for index in indexes:
        for text, held in index.templates.items():
            letters.setdefault(text, set()).update(held)
    return {text: decide(text, frozenset(held), lines) for text, held in letters.items()}


def choose(part: Part, index: SegmentIndex, question: Question, known: Mapping[str, Verdict]) -> Choice:
    """What is read of a compacted segment."""
    read = np.ones(len(index), bool)
    if part.groups is not None:
        read[:] = False
        read[part.groups] = True
    tally = _Tally(read)
    tally.keep("time", (index.max_ts >= question.start) & (index.min_ts < question.end))
    if part.held is None or not np.isin(part.held.streams, question.ids).all():
        tally.keep("streams", index.with_streams(question.ids))
    certain, foreign = np.ones(len(index), bool), np.zeros(len(index), bool)
    if question.lines:
        every, some, none = index.verdicts(known)
        tally.keep("templates", every | some)
        certain, foreign = ~some, none
        for condition in question.lines:
            if tally.read.any() and (possible := _by_tokens(index, condition)) is not None:
                tally.keep("tokens", possible)
    return Choice(part, index, tally.read, certain, foreign, tally.passed_over)


@dataclass(slots=True)
class _Tally:
    read: np.ndarray
    passed_over: dict[str, int] = field(default_factory=dict)

    def keep(self, reason: str, which: np.ndarray) -> None:
        gone = int((self.read & ~which).sum())
        if gone:
            self.passed_over[reason] = self.passed_over.get(reason, 0) + gone
        self.read = self.read & which


def _by_tokens(index: SegmentIndex, condition: LineCondition) -> np.ndarray | None:
    """Which groups may have the variable tokens that a condition needs; None when it needs none."""
    needed = [_tokens(test) for test in condition.tests]
    if condition.negated or not all(needed):
        return None
    return np.asarray(np.logical_or.reduce([index.with_tokens(tokens) for tokens in needed]))


def _tokens(test: LineTest) -> list[str]:
    texts = required_texts(test.text) if test.regex else (test.text,)
    return [token for text in texts for token in inner_tokens(text)]
