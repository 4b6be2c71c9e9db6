"""`label_replace`: a label of series made of another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import re2

from .binary import collected
from .matrix import Labels, Matrix, label_key
from .tree import LabelReplace

# As Go's regexp.Expand reads a replacement: the longest name counts, braces end it earlier.
_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))", re.ASCII)


def label_replace(tree: LabelReplace, matrix: Matrix) -> Matrix:
    """The series with the label `dst` where all of `src` matches. Raises Impossible where two become one."""
    pattern = re2.compile(f"^(?:{tree.regex})$")
    labels = [_replaced(tree, pattern, own) for own in matrix.labels]
    if len(set(labels)) == len(labels):
        return Matrix(tuple(labels), matrix.values, matrix.present, matrix.ordered)
    return collected(zip(labels, matrix.values, matrix.present, strict=True), matrix.values.shape[1])


def _replaced(tree: LabelReplace, pattern: Any, labels: Labels) -> Labels:
    own = dict(labels)
    match = pattern.search(own.get(tree.src, ""))
    if match is None:
        return labels
    value = expand(tree.replacement, match, pattern.groupindex)
    own.pop(tree.dst, None)
    return label_key({**own, tree.dst: value} if value else own)


def expand(replacement: str, match: Any, names: Mapping[str, int]) -> str:
    """A replacement with the groups of a match in it; one that is not there is empty."""
    return _REFERENCE.sub(lambda reference: _group(reference, match, names), replacement)


def _group(reference: re.Match[str], match: Any, names: Mapping[str, int]) -> str:
    if reference[1]:
        return "$"
    name = reference[2] or reference[3]
    number = int(name) if name.isdigit() else names.get(name, -1)
    return (match[number] or "") if 0 <= number <= match.re.groups else ""
