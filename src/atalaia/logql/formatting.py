"""Stages that change a line or labels, for one entry: decolorize, drop, keep, label_format, line_format."""

from __future__ import annotations

import re
from collections.abc import Callable

from .entry import Entry
from .errors import NotBuilt
from .extract import DETAILS, ERROR
from .select import matcher_test
from .tree import Drop, Keep, LabelFormat, LineFormat, Rename

# The escape sequences of terminals (ECMA-48), as most tools strip them.
_COLOURS = re.compile(
    "[\x1b\x9b][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\x07)"
    "|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]))"
)
Step = Callable[[Entry], bool]


def decolorized(line: str) -> str:
    """A line without the escape sequences that colour it."""
    return _COLOURS.sub("", line)


def _chosen(stage: Drop | Keep) -> Callable[[str, str], bool]:
    """Whether a stage names a label, or the label with this value."""
    names = {item for item in stage.items if isinstance(item, str)}
    matchers = [(item.name, matcher_test(item)) for item in stage.items if not isinstance(item, str)]
    return lambda name, value: name in names or any(name == other and test(value) for other, test in matchers)


def drop(stage: Drop) -> Step:
    """The stage `drop`; an error can be dropped like a label."""
    chosen = _chosen(stage)

    def run(entry: Entry) -> bool:
        entry.remove([name for name, value in entry.all().items() if chosen(name, value)])
        return True

    return run


def keep(stage: Keep) -> Step:
    """The stage `keep`; errors are always kept."""
    chosen = _chosen(stage)

    def run(entry: Entry) -> bool:
        entry.remove(
            [name for name, value in entry.all().items() if name not in (ERROR, DETAILS) and not chosen(name, value)]
        )
        return True

    return run


def label_format(stage: LabelFormat) -> Step:
    """The stage `label_format`."""
    if not all(isinstance(assignment, Rename) for assignment in stage.assignments):
        raise NotBuilt("a template in `label_format`")

    def run(entry: Entry) -> bool:
        for assignment in stage.assignments:
            assert isinstance(assignment, Rename)
            value = entry.get(assignment.source)
            if value is not None:
                entry.set(assignment.name, value)
                entry.remove((assignment.source,))
        return True

    return run


def line_format(stage: LineFormat) -> Step:
    """The stage `line_format`."""
    raise NotBuilt("the stage `line_format`")
