"""YAML with line numbers: every value knows where it stands, so that a wrong one can be named with its line."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from atalaia.environment.errors import ConfigurationError, InputError, Problem

_MERGE = "tag:yaml.org,2002:merge"
_MOST = 200_000  # values of a file
_LISTED = 16  # keys that are listed beside the nearest one


@dataclass(slots=True)
class Node:
    """A value at a line (from 1); `value` is a scalar, a list of Nodes, or a dictionary of key -> Node.

    `written`: a scalar as it stands in the file. `text_line`: where its own first line stands.
    """

    value: Any
    line: int
    written: str | None = None
    text_line: int = 0

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class Reader:
    """Takes values out of nodes and gathers what is wrong with them (`problems`), or worth saying (`remarks`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []

    def load(self, text: str) -> Node:
        """The root node; raises ConfigurationError when the text is not YAML."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is None:
                return Node({}, 1)
            self._find_repeated(root)
            return _Maker().node(root)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 0
            what = getattr(error, "problem", None) or str(error)
            raise ConfigurationError(
                [Problem(self.path, line, f"not YAML: {what}", "check indentation and quotes at this line")]
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                [Problem(self.path, 0, f"a value cannot be read: {error}", "put quotes around it")]
            ) from error

    def _find_repeated(self, root: yaml.Node) -> None:
        waiting, seen = [root], set[int]()
        while waiting:
            node = waiting.pop()
            if id(node) in seen or not isinstance(node, yaml.CollectionNode):
                continue
            seen.add(id(node))  # an alias is the same node again
            if isinstance(node, yaml.SequenceNode):
                waiting += node.value
                continue
            keys = set[str]()
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if key.value in keys:
                        line = key.start_mark.line + 1
                        message = f"the key {key.value!r} stands twice in one mapping"
                        self.problems.append(Problem(self.path, line, message, "leave one of them out"))
                    keys.add(key.value)

    def problem(self, node: Node, message: str, remedy: str) -> None:
        """Note a problem at a node's line."""
        self.problems.append(Problem(self.path, node.line, message, remedy))

    def remark(self, node: Node, message: str, remedy: str) -> None:
        """Note what is not wrong but should be known, at a node's line."""
        self.remarks.append(Problem(self.path, node.line, message, remedy))

    def mapping(self, node: Node | None, what: str, known: set[str] | None = None) -> dict[str, Node]:
        """The node as a mapping; keys beyond `known` are problems. Empty for none or something else."""
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            self.problem(node, f"{what} is {node.plain()!r}, not a mapping", "write `key: value` lines below it")
            return {}
        found: dict[str, Node] = node.value
        if known is not None:
            for key in sorted(found.keys() - known):
                near = get_close_matches(key, known, 1)
                remedy = f"did you mean {near[0]!r}? " if near else ""
                if not near or len(known) <= _LISTED:
                    remedy += f"known here: {', '.join(sorted(known))}"
                remedy = remedy.rstrip()
                self.problem(found[key], f"{what}: {key!r} is not known to this version of Atalaia", remedy)
        return found

    def sequence(self, node: Node | None, what: str) -> list[Node]:
        """The node as a list."""
        if node is None or node.value is None:
            return []
        if not isinstance(node.value, list):
            self.problem(node, f"{what} is {node.plain()!r}, not a list", "write `- ` before each of its parts")
            return []
        items: list[Node] = node.value
        return items

    def text(self, node: Node | None, what: str) -> str | None:
        """The node as text; numbers and booleans are taken as they are written."""
        if node is None or node.value is None:
            return None
        if isinstance(node.value, (dict, list)):
            self.problem(node, f"{what} is not a single value", "write one value")
            return None
        text = node.written if node.written is not None else str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.problem(node, f"{what} has half a character", "a \\ud800 to \\udfff stands for none by itself")
            return None
        return text

    def flag(self, node: Node | None, what: str) -> bool:
        """The node as yes or no; false for none."""
        if node is None or node.value is None:
            return False
        if not isinstance(node.value, bool):
            self.problem(node, f"{what} is {node.plain()!r}, neither true nor false", "write true or false")
        return node.value is True

    def texts(self, node: Node | None, what: str) -> dict[str, str | None]:
        """The node as a mapping of texts."""
        return {key: self.text(value, f"{what}.{key}") for key, value in self.mapping(node, what).items()}


def read_text(path: Path) -> str:
    """The text of a configuration file; raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "name an existing UTF-8 file that you may read") from error


class _Maker:
    """Nodes of YAML's own; an alias is made again wherever it stands, up to a bound."""

    def __init__(self) -> None:
        self._loader = yaml.SafeLoader("")
        self._left = _MOST
        self._widths: dict[int, int] = {}

    def _width(self, node: yaml.Node) -> int:
        """How many pairs a mapping has with those that `<<` merges into it."""
        if not isinstance(node, yaml.MappingNode):
            return 0
        if id(node) not in self._widths:
            merged = [value for key, value in node.value if key.tag == _MERGE]
            sources = [one for value in merged for one in (value.value if _is_list(value) else [value])]
            self._widths[id(node)] = len(node.value) + sum(map(self._width, sources))
        return self._widths[id(node)]

    def node(self, node: yaml.Node) -> Node:
        self._left -= 1
        if self._left < 0 or self._width(node) > _MOST:
            raise ValueError(f"it has more than {_MOST} values")
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            self._loader.flatten_mapping(node)
            found = {str(self.node(key).value): _at(self.node(value), key) for key, value in node.value}
            return Node(found, line)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(item) for item in node.value], line)
        # The text of a block (`|`, `>`) begins behind the line of its sign.
        block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        return Node(self._loader.construct_object(node), line, node.value, line + block)


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _at(node: Node, key: yaml.Node) -> Node:
    """A value is looked for where its key stands."""
    node.line = key.start_mark.line + 1
    return node
