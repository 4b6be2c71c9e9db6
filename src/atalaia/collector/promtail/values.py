"""Values of a promtail.yaml that several of its parts have."""

from __future__ import annotations

import re
from collections.abc import Callable

from atalaia.environment.yamlfile import Node, Reader


def checked(reader: Reader, node: Node | None, what: str, convert: Callable[[str], int]) -> int | None:
    """A text's number; the reader is told what is wrong with it."""
    text = reader.text(node, what)
    if node is None or text is None:
        return None
    try:
        return convert(text)
    except ValueError as error:
        reader.problem(node, f"{what}: {error}", "correct the value, or leave it out")
        return None


def labels_from(reader: Reader, node: Node | None, what: str) -> dict[str, str | None]:
    """A mapping of label names to texts; Loki and the store refuse every entry with another name."""
    nodes = reader.mapping(node, what)
    for name in nodes:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            reader.problem(nodes[name], f"{what}: {name!r} is not a label name", "write letters, digits and _ only")
    return {name: reader.text(value, f"{what}.{name}") for name, value in nodes.items()}
