"""Rule files -> groups. All that is wrong with a file is told at once, each with its line.

The form: https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/, with LogQL in `expr`.
"""

from __future__ import annotations

import re
from pathlib import Path

from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader, read_text
from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery, Metric
from atalaia.rules.model import INTERVAL, Group, Rule
from atalaia.rules.templates import template_problem

_GROUP = {"name", "interval", "query_offset", "limit", "labels", "rules"}
_ALERT = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
_RECORD = {"record", "expr", "labels"}
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LONGEST = 100 * 365 * 86_400 * 10**9  # ns; a duration beyond it is a mistake
_MOST_NAME = 200  # bytes of a group's name
REFUSED = "no rule was changed"


def read_files(paths: list[Path]) -> dict[Path, tuple[Group, ...]]:
    """The groups of rule files. Raises ConfigurationError with every problem of all of them, InputError."""
    found, problems = {}, []
    for path in paths:
        try:
            found[path] = read_groups(read_text(path), path)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems, REFUSED)
    return found


def read_groups(text: str, path: Path) -> tuple[Group, ...]:
    """The groups of a rule file's text. Raises ConfigurationError."""
    reader = Reader(path)
    root = reader.mapping(reader.load(text), "the file", {"groups"})
    nodes = reader.sequence(root.get("groups"), "groups")
    groups = [_group(reader, node) for node in nodes]
    seen = set[str]()
    for group, node in zip(groups, nodes, strict=True):
        if group.name and group.name in seen:
            reader.problem(
                node, f"a second group is called {group.name!r}", "groups of one file have names of their own"
            )
        seen.add(group.name)
    if reader.problems:
        raise ConfigurationError(reader.problems, REFUSED)
    return tuple(groups)


def read_group(text: str, path: Path) -> Group:
    """One group, as the API takes it: without `groups:` around it. Raises ConfigurationError."""
    reader = Reader(path)
    root = reader.load(text)
    if isinstance(root.value, dict) and "groups" in root.value:
        raise InputError("the body is a whole rule file", "send each of its groups by itself: name, interval, rules")
    group = _group(reader, root)
    if reader.problems:
        raise ConfigurationError(reader.problems, REFUSED)
    return group


def _group(reader: Reader, node: Node) -> Group:
    found = reader.mapping(node, "the group", _GROUP)
    name = reader.text(found.get("name"), "name") or ""
    if not name or len(name.encode(errors="replace")) > _MOST_NAME:
        what = "the group has no name" if not name else f"the group's name has more than {_MOST_NAME} bytes"
        reader.problem(node, what, "write `name: NAME`")
    limit_node = found.get("limit")
    limit = limit_node.value if limit_node is not None and limit_node.value is not None else 0
    if limit_node is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        reader.problem(limit_node, f"limit is {limit_node.plain()!r}, no number of alerts or series", "write a number")
        limit = 0
    labels = _labels(reader, found.get("labels"), "labels", templates=True)
    rules = []
    for item in reader.sequence(found.get("rules"), "rules"):
        if (rule := _rule(reader, item)) is not None:
            rules.append(rule)
    return Group(
        name,
        tuple(rules),
        _duration(reader, found.get("interval"), "interval", least=10**9) or INTERVAL,
        limit,
        _duration(reader, found.get("query_offset"), "query_offset"),
        labels,
    )


def _rule(reader: Reader, node: Node) -> Rule | None:
    """A rule; None when it has problems, which are noted."""
    before = len(reader.problems)
    found = reader.mapping(node, "the rule")
    records = "record" in found
    if records == ("alert" in found):
        what = "both `alert` and `record`" if records else "neither `alert` nor `record`"
        reader.problem(node, f"the rule has {what}", "write one of them, with the rule's name")
        return None
    kind = "record" if records else "alert"
    found = reader.mapping(node, f"the {kind}ing rule", _RECORD if records else _ALERT)
    name = reader.text(found[kind], kind) or ""
    if not name:
        reader.problem(found[kind], f"`{kind}` has no name", f"write `{kind}: NAME`")
    elif records and not _METRIC.fullmatch(name):
        reader.problem(found[kind], f"{name!r} is not the name of a metric", "letters, digits, _ and :, no digit first")
    what = f"rule {name!r}"
    tree = _expression(reader, found.get("expr"), node, what)
    rule = Rule(
        name,
        reader.text(found.get("expr"), "expr") or "",
        tree,  # type: ignore[arg-type]  # without a tree there are problems, and no rule
        records,
        _duration(reader, found.get("for"), "for"),
        _duration(reader, found.get("keep_firing_for"), "keep_firing_for"),
        _labels(reader, found.get("labels"), f"labels of {what}", templates=not records),
        _labels(reader, found.get("annotations"), f"annotations of {what}", templates=True),
    )
    return rule if len(reader.problems) == before else None


def _expression(reader: Reader, node: Node | None, rule: Node, what: str) -> Metric | None:
    text = reader.text(node, "expr")
    if node is None or not text or not text.strip():
        reader.problem(node or rule, f"{what} has no expression", "write `expr: LOGQL`")
        return None
    try:
        tree = parse(text)
    except LogQLError as error:
        # In a block each line of the text is one of the file.
        line = node.text_line + max(error.line - 1, 0)
        at = Node(None, line if error.line else node.line)
        reader.problem(at, f"the expression of {what}: {error}", "docs/logql.md lists what can be written")
        return None
    if isinstance(tree, LogQuery):
        remedy = f"count them, for example: count_over_time({text.strip()[:200]} [5m])"
        reader.problem(node, f"the expression of {what} gives lines, not numbers", remedy)
        return None
    return tree


def _duration(reader: Reader, node: Node | None, what: str, least: int = 0) -> int:
    """Nanoseconds, at least `least`; 0 for none."""
    text = reader.text(node, what)
    if node is None or text is None:
        return 0
    try:
        found = parse_duration(text)
    except ValueError:
        found = -1
    if not least <= found <= _LONGEST:
        bound = " of at least 1s" if least else ""
        reader.problem(node, f"{what} is {text!r}, no duration{bound}", "write a duration such as 30s, 5m or 1h30m")
        return 0
    return found


def _labels(reader: Reader, node: Node | None, what: str, templates: bool) -> dict[str, str]:
    nodes = reader.mapping(node, what)
    found = {}
    for name, value in nodes.items():
        text = reader.text(value, f"{what}: {name}") or ""
        if not _LABEL.fullmatch(name) or (name == "__name__" and not what.startswith("annotations")):
            reader.problem(value, f"{what}: {name!r} is not a label's name", "letters, digits and _, no digit first")
        elif templates and (problem := template_problem(text)):
            reader.problem(
                value, f"{what}: the template of {name!r}: {problem}", "close each {{ with }}; docs/rules.md"
            )
        else:
            found[name] = text
    return found
