"""Label sets as Loki's clients write them: `{job="postgres", server="a"}`."""

from __future__ import annotations

from functools import lru_cache

from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.store.batch import BatchError, canonical


@lru_cache(maxsize=10_000)
def parse_label_text(text: str) -> dict[str, str]:
    """The labels; raises BatchError when the text is not a label set."""
    try:
        query = parse(text)
    except LogQLError as error:
        raise BatchError(
            f"stream {text[:200]!r} is not a label set: {str(error)[:500]}", 'write it as {name="value", …}'
        ) from error
    if not isinstance(query, LogQuery) or query.stages or any(m.op != "=" for m in query.selector.matchers):
        raise BatchError(f"stream {text[:200]!r} is not a label set", 'write it as {name="value", …}')
    labels = {m.name: m.value for m in query.selector.matchers}
    if len(labels) < len(query.selector.matchers):
        raise BatchError(f"stream {text[:200]!r} names a label twice", "name each label once")
    return labels


def stream_text(text: str) -> str:
    """The canonical spelling of a stream's labels; for what is no label set one that the store refuses by its name.

    So entries of that stream are refused, and only those.
    """
    try:
        return canonical(parse_label_text(text))
    except BatchError:
        return canonical({text: "is not a label set"} if text.strip("{} ") else {})
