"""Relabelling as Prometheus and Promtail do it: rules that change a set of labels, or drop what has it.

The rules: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config. Expressions are RE2
and must match the whole value. A label that is not there reads as empty, and an empty one is removed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.checks import compile_quietly, regex_problem
from atalaia.logql.relabel import expand

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TARGET = re.compile(r"(?:(?:[A-Za-z_]|\$(?:\{\w+\}|\w+))+\w*)+", re.ASCII)
_REGEX, _SEPARATOR, _REPLACEMENT = "(.*)", ";", "$1"
_REMEMBERED = 10_000  # label sets whose outcome is kept
_KEYS = {"source_labels", "separator", "regex", "modulus", "target_label", "replacement", "action"}
_CASES: Mapping[str, Callable[[str], str]] = {"lowercase": str.lower, "uppercase": str.upper}
_COMPARING = ("keepequal", "dropequal")
_DROPPING = ("labeldrop", "labelkeep")
ACTIONS = ("replace", "keep", "drop", "hashmod", "labelmap", *_DROPPING, *_CASES, *_COMPARING)


class RelabelError(ValueError):
    """A rule cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of relabel_configs, with Prometheus' defaults. Raises RelabelError for what Prometheus refuses."""

    action: str = "replace"
    source_labels: tuple[str, ...] = ()
    separator: str = _SEPARATOR
    regex: str = _REGEX
    modulus: int = 0
    target_label: str = ""
    replacement: str = _REPLACEMENT
    _pattern: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise RelabelError(f"the action {self.action!r} is not known; there are: {', '.join(ACTIONS)}")
        for name in self.source_labels:
            if not _NAME.fullmatch(name):
                raise RelabelError(f"source_labels: {name!r} is not a label name")
        if problem := regex_problem(self.regex):
            raise RelabelError(f"the regex is not RE2: {problem}")
        object.__setattr__(self, "_pattern", compile_quietly(f"^(?s:{self.regex})$"))
        self._check_target()
        self._check_others()

    def _check_target(self) -> None:
        if self.action in ("keep", "drop", "labelmap", *_DROPPING):
            return
        if not self.target_label:
            raise RelabelError(f"{self.action} needs 'target_label'")
        expanded = self.action == "replace" and "$" in self.target_label
        if not (_TARGET if expanded else _NAME).fullmatch(self.target_label):
            raise RelabelError(f"target_label {self.target_label!r} is not a label name")

    def _check_others(self) -> None:
        if self.action == "hashmod" and self.modulus <= 0:
            raise RelabelError("hashmod needs a 'modulus' above 0")
        if self.action == "labelmap" and not _TARGET.fullmatch(self.replacement):
            raise RelabelError(f"replacement {self.replacement!r} makes no label name")
        if self.action in _CASES and self.replacement != _REPLACEMENT:
            raise RelabelError(f"{self.action} takes no 'replacement'")
        given = (self.modulus, self.separator, self.replacement)
        plain = given == (0, _SEPARATOR, _REPLACEMENT)
        if self.action in _COMPARING and not (plain and self.regex == _REGEX):
            raise RelabelError(f"{self.action} takes only 'source_labels' and 'target_label'")
        if self.action in _DROPPING and not (plain and not self.source_labels and not self.target_label):
            raise RelabelError(f"{self.action} takes only 'regex'")

    def __call__(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The changed labels; None: dropped."""
        if self.action in ("labelmap", *_DROPPING):
            return self._by_name(labels)
        value = self.separator.join(labels.get(name, "") for name in self.source_labels)
        if self.action == "replace":
            return self._replaced(labels, value)
        if self.action == "hashmod":
            number = int.from_bytes(hashlib.md5(value.encode(), usedforsecurity=False).digest()[8:]) % self.modulus
            return _with(labels, self.target_label, str(number))
        if change := _CASES.get(self.action):
            return _with(labels, self.target_label, change(value))
        if self.action in _COMPARING:
            same = labels.get(self.target_label, "") == value
            return dict(labels) if same == (self.action == "keepequal") else None
        matches = self._pattern.search(value) is not None
        return dict(labels) if matches == (self.action == "keep") else None

    def reads(self, label: str) -> bool:
        """Whether a label can make a difference to others, or to what is dropped."""
        if self.action == "labelmap":
            return self._pattern.search(label) is not None
        return label in self.source_labels or (self.action in _COMPARING and label == self.target_label)

    def _replaced(self, labels: Mapping[str, str], value: str) -> dict[str, str]:
        match = self._pattern.search(value)
        if match is None:
            return dict(labels)
        target = expand(self.target_label, match, self._pattern.groupindex)
        if not _NAME.fullmatch(target):
            return dict(labels)
        return _with(labels, target, expand(self.replacement, match, self._pattern.groupindex))

    def _by_name(self, labels: Mapping[str, str]) -> dict[str, str]:
        matches = {name: match for name in sorted(labels) if (match := self._pattern.search(name)) is not None}
        if self.action == "labeldrop":
            return {name: value for name, value in labels.items() if name not in matches}
        if self.action == "labelkeep":
            return {name: value for name, value in labels.items() if name in matches}
        made = dict(labels)
        for name, match in matches.items():
            new = expand(self.replacement, match, self._pattern.groupindex)
            if _NAME.fullmatch(new):  # Loki refuses every entry with another name
                made[new] = labels[name]
        return made


def _with(labels: Mapping[str, str], name: str, value: str) -> dict[str, str]:
    made = {**labels, name: value}
    if not value:
        del made[name]
    return made


def relabelled(rules: Sequence[Rule], labels: Mapping[str, str]) -> dict[str, str] | None:
    """The labels behind all rules, empty ones left out; None: dropped. Those that begin with `__` are still there."""
    found: dict[str, str] | None = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if found is None:
            return None
        found = rule(found)
    return found


class Relabeller:
    """`relabelled` with some rules, as plan.Relabel; label sets that come again are looked up."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._remembered = lru_cache(maxsize=_REMEMBERED)(lambda labels: relabelled(self._rules, dict(labels)))

    def __call__(self, labels: Mapping[str, str]) -> Mapping[str, str] | None:
        """The labels behind all rules; None: dropped."""
        return self._remembered(frozenset(labels.items()))

    def reads(self, label: str) -> bool:
        """Whether a label can make a difference to others, or to what is dropped."""
        return any(rule.reads(label) for rule in self._rules)

    def __deepcopy__(self, memo: object) -> Relabeller:
        return Relabeller(self._rules)


def rules_of(reader: Reader, node: Node | None) -> tuple[Rule, ...]:
    """The rules of a relabel_configs; what is wrong with one is told to the reader, and the rule left out."""
    listed = reader.sequence(node, "relabel_configs")
    return tuple(rule for one in listed if (rule := _rule(reader, one)) is not None)


def _rule(reader: Reader, node: Node) -> Rule | None:
    before = len(reader.problems)
    body = reader.mapping(node, "relabel_configs", _KEYS)

    def text(key: str, default: str) -> str:
        # As Go's YAML does it, a key without a value is an empty text.
        return default if key not in body else reader.text(body[key], key) or ""

    listed = reader.sequence(body.get("source_labels"), "source_labels")
    modulus = reader.text(body.get("modulus"), "modulus") or "0"
    try:
        if not (modulus.isascii() and modulus.isdigit()):
            raise RelabelError(f"modulus {modulus!r} is not a whole number")
        rule = Rule(
            text("action", "replace").lower(),
            tuple(reader.text(one, "source_labels") or "" for one in listed),
            text("separator", _SEPARATOR),
            text("regex", _REGEX),
            int(modulus),
            text("target_label", ""),
            text("replacement", _REPLACEMENT),
        )
    except RelabelError as error:
        reader.problem(node, f"relabel_configs: {error}", "correct the rule as Prometheus' documentation describes it")
        return None
    return rule if len(reader.problems) == before else None
