"""Selectors in parameters: what the questions about streams are about."""

from __future__ import annotations

from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery, Selector

EVERY = Selector(())


def selector_of(text: str, *, every: bool = True) -> Selector:
    """A stream selector. With `every`, `{}` selects all streams, as Loki has it where no lines are read.

    Raises LogQLError, and InputError for a query that is more than a selector.
    """
    if every and text.replace(" ", "") == "{}":
        return EVERY
    tree = parse(text)
    if not isinstance(tree, LogQuery) or tree.stages:
        raise InputError(f'{text[:200]!r} is not a stream selector such as {{job="postgres"}}')
    return tree.selector
