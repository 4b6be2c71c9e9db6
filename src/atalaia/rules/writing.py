"""Groups as the YAML that they are read from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from atalaia.environment.units import NANOSECOND
from atalaia.rules.model import Group, Rule

_UNITS = ("w", "d", "h", "m", "s", "ms", "us", "ns")


def duration(ns: int) -> str:
    """A duration as Prometheus writes it: `1h30m`, `0s`."""
    text, left = "", ns
    for unit in _UNITS:
        count, rest = divmod(left, NANOSECOND[unit])
        # Weeks only where nothing else is needed beside them.
        if count and not (unit == "w" and rest):
            text += f"{count}{unit}"
            left = rest
    return text or "0s"


def group_data(group: Group) -> dict[str, Any]:
    """A group as plain data; what is not said is left out."""
    data: dict[str, Any] = {"name": group.name, "interval": duration(group.interval)}
    if group.offset:
        data["query_offset"] = duration(group.offset)
    if group.limit:
        data["limit"] = group.limit
    if group.labels:
        data["labels"] = dict(group.labels)
    return {**data, "rules": [_rule_data(rule) for rule in group.rules]}


def _rule_data(rule: Rule) -> dict[str, Any]:
    data: dict[str, Any] = {"record" if rule.records else "alert": rule.name, "expr": rule.expr}
    if rule.hold:
        data["for"] = duration(rule.hold)
    if rule.keep:
        data["keep_firing_for"] = duration(rule.keep)
    if rule.labels:
        data["labels"] = dict(rule.labels)
    if rule.annotations:
        data["annotations"] = dict(rule.annotations)
    return data


def file_text(groups: Iterable[Group]) -> str:
    """A rule file of groups."""
    return to_yaml({"groups": [group_data(group) for group in groups]})


def to_yaml(data: Any) -> str:
    """Plain data as YAML, in the order that it has."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Several lines as a block; what YAML takes for the end of a line, and Python does not, escaped."""

    def ignore_aliases(self, data: Any) -> bool:
        """See yaml: equal values are written again."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    odd = any(character in text for character in "\x85\u2028\u2029")
    style = '"' if odd else "|" if "\n" in text.strip() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
