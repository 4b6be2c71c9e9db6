"""Which streams a selector selects: matchers against label sets, with Loki's meaning (an absent label is empty)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import re2

from .tree import Matcher, Selector


def matcher_test(matcher: Matcher) -> Callable[[str], bool]:
    """A test of a label's value; the regular expressions of `=~` and `!~` match the whole value."""
    if matcher.op == "=":
        return lambda value: value == matcher.value
    if matcher.op == "!=":
        return lambda value: value != matcher.value
    # Loki compiles matchers as ^(?s:…)$: a dot takes a newline too.
    pattern = re2.compile(f"(?s:{matcher.value})")
    if matcher.op == "=~":
        return lambda value: pattern.fullmatch(value) is not None
    return lambda value: pattern.fullmatch(value) is None


def selector_test(selector: Selector) -> Callable[[Mapping[str, str]], bool]:
    """A test of a stream's labels: every matcher agrees."""
    tests = [(m.name, matcher_test(m)) for m in selector.matchers]
    return lambda labels: all(test(labels.get(name, "")) for name, test in tests)
