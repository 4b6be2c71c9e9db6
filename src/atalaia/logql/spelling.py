"""Regular expressions (RE2) of the keys that become a label: what sanitise() of extract.py does, backwards."""

from __future__ import annotations

import re

BLANKS = r"\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
"""What strings.TrimSpace takes off beyond ASCII, as a part of a character class."""
# A name of _ and a digit may have lost its _.
_NAME = re.compile(r"(?!_[0-9])[A-Za-z_][A-Za-z0-9_]*")


def regular(name: str) -> bool:
    """Whether `spelled` knows all keys without blanks that become this label."""
    return _NAME.fullmatch(name) is not None


def spelled(name: str, other: str) -> str:
    """An expression of the keys that become this label; `other` is a class of the characters that become _."""
    return name.replace("_", other)


def longest_part(name: str) -> str:
    """What a line must hold where a key becomes this label; "" for a name of _ alone."""
    return max(name.split("_"), key=len)
