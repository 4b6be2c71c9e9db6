"""Values of a promtail.yaml that several of its parts have."""

from __future__ import annotations

import re
from collections.abc import Callable

from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader

_SIZE = re.compile(r"(\d+)\s*(?:([KMGT])(?:I?B)?|B)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


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


def seconds(reader: Reader, node: Node | None, what: str, default: float) -> float:
    """A duration in seconds, `default` for none or a wrong one, which the reader is told."""
    found = checked(reader, node, what, parse_duration)
    return default if found is None else found / 1e9


def whole(text: str) -> int:
    """A whole number from 0 on. ValueError."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def size(text: str) -> int:
    """A size in bytes as Promtail reads it: 256kb, 2M, 1MiB, each unit 1024 of the one before. ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 256kb or 2M")
    return int(match[1]) << 10 * _POWERS[(match[2] or "").upper()]


def labels_from(reader: Reader, node: Node | None, what: str) -> dict[str, str | None]:
    """A mapping of label names to texts; Loki and the store refuse every entry with another name."""
    nodes = reader.mapping(node, what)
    for name in nodes:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            reader.problem(nodes[name], f"{what}: {name!r} is not a label name", "write letters, digits and _ only")
    return {name: reader.text(value, f"{what}.{name}") for name, value in nodes.items()}
