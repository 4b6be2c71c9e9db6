"""Which streams a selector selects: matchers against label sets, with Loki's meaning (an absent label is empty)."""

from __future__ import annotations

from collections.abc import Callable

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


def matcher_tests(selector: Selector) -> list[tuple[str, Callable[[str], bool]]]:
    """The name of a label and the test of its value, for each matcher; all must agree."""
    return [(matcher.name, matcher_test(matcher)) for matcher in selector.matchers]
