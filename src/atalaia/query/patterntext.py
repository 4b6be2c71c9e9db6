"""A template of the store as a pattern of LogQL: `connection from <_> closed`.

A pattern is made to be asked for with `|>`, which looks for each literal where it is first found and never goes back.
It finds every line of its template, whatever stands in the variable tokens.
"""

from __future__ import annotations

import re

from atalaia.store.templates import PLACEHOLDER

ANY = "<_>"
LONGEST = 1_000  # characters of a template; what is behind them is any text
_PLACEHOLDERS = re.compile(f"{PLACEHOLDER}+")
_JOINERS = "-.:/,_+@"
# Values that are made of several tokens: addresses, times, versions, UUIDs, numbers with a point.
_RUN = re.compile(f"{PLACEHOLDER}(?:[{re.escape(_JOINERS)}]?{PLACEHOLDER})*")
# What cannot be said in a pattern: text that reads like a capture, and text that no sign separates from what is before
# it (a line may hold the placeholder's own byte).
_UNSAYABLE = re.compile(f"<[A-Za-z_][A-Za-z0-9_]*>|(?<={PLACEHOLDER})[A-Za-z0-9]")


def pattern_of(template: str) -> str:
    """The pattern. Values that belong together are one placeholder where that is certain to find them all."""
    text = template[:LONGEST]
    unsayable = _UNSAYABLE.search(text)
    if unsayable or len(text) < len(template):
        # From there on any text will do.
        text = (text[: unsayable.start()] if unsayable else text) + PLACEHOLDER
    pieces: list[str] = []
    at = 0
    runs = list(_RUN.finditer(text))
    # The literal behind a run ends where the next run begins.
    for run, end in zip(runs, [*(run.start() for run in runs[1:]), len(text)], strict=False):
        certain = not _begins_inside(run[0], text[run.end() : end])
        pieces += [text[at : run.start()], ANY if certain else _PLACEHOLDERS.sub(ANY, run[0])]
        at = run.end()
    return "".join([*pieces, text[at:]])


def _begins_inside(run: str, literal: str) -> bool:
    """Whether the literal behind a run may be found in the run already: at one of the signs that join its tokens."""
    if not literal or literal[0] not in run:
        return False
    return len(literal) == 1 or (literal[1].isascii() and literal[1].isalnum())
