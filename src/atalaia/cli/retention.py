"""Retention as a person writes it, as the store takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from atalaia.environment.errors import InputError
from atalaia.environment.settings import RetentionRule
from atalaia.environment.units import parse_duration, parse_size
from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.select import matcher_tests
from atalaia.logql.tree import LogQuery, Selector
from atalaia.store.retention import Retention, Rule

_EXAMPLE = """for example 'age=7d tenant=fake {job="varlogs"}'"""


def check_selector(text: str) -> None:
    """Raises ValueError for what is no selector of streams."""
    _selector(text)


def retention(age: str | None, size: str | None, rules: Sequence[RetentionRule] = ()) -> Retention:
    """Raises InputError for what is no age, size or selector."""
    return Retention(*_bounds(age, size), tuple(_rule(rule) for rule in rules))


def parse_rule(text: str) -> RetentionRule:
    """A rule written in one line: age=, size=, tenant= and a selector. Raises InputError."""
    words, brace, selector = text.partition("{")
    pairs = [word.partition("=") for word in words.split()]
    values = {name: value for name, _, value in pairs} | ({"selector": brace + selector} if brace else {})
    unknown = [name for name, sign, _ in pairs if not sign or name not in ("age", "size", "tenant")]
    if unknown or len(values) < len(pairs) + bool(brace):
        raise InputError(f"--retention-rule {text!r} is not one age=, size=, tenant= and selector", _EXAMPLE)
    try:
        return RetentionRule.model_validate(values)
    except ValidationError as error:
        message = re.sub("^Value error, ", "", error.errors(include_url=False)[0]["msg"])
        raise InputError(f"--retention-rule {text!r}: {message}", _EXAMPLE) from error


def _bounds(age: str | None, size: str | None) -> tuple[int | None, int | None]:
    try:
        return parse_duration(age) if age else None, parse_size(size) if size else None
    except ValueError as error:
        raise InputError(str(error)) from error


def _selector(text: str) -> Selector:
    try:
        tree = parse(text)
    except LogQLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(tree, LogQuery) or tree.stages:
        raise ValueError("more than a selector")
    return tree.selector


def _rule(rule: RetentionRule) -> Rule:
    try:
        tests = matcher_tests(_selector(rule.selector)) if rule.selector is not None else []
    except ValueError as error:
        raise InputError(str(error), "give a selector of streams, such as '{job=\"postgres\"}'") from error

    def holds(tenant: str, labels: Mapping[str, str]) -> bool:
        return rule.tenant in (None, tenant) and all(test(labels.get(name, "")) for name, test in tests)

    return Rule(holds, *_bounds(rule.age, rule.size))
