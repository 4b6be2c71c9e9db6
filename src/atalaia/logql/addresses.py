"""`ip("…")`: IP addresses in texts, found as Loki finds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True)
class _Range:
    version: int
    first: int
    last: int


# A run of an address's characters that has its first point or colon soon enough.
_RUNS = re.compile(r"[0-9](?=\.|.\.|..\.)[0-9.]*|[0-9A-Fa-f:](?=.{0,3}:)[0-9A-Fa-f:.]*", re.DOTALL)


@lru_cache(maxsize=256)
def _range(pattern: str) -> _Range:
    if "/" in pattern:
        network = ip_network(pattern, strict=False)
        return _Range(network.version, int(network[0]), int(network[-1]))
    first, _, last = pattern.partition("-")
    low = ip_address(first)
    return _Range(low.version, int(low), int(ip_address(last or first)))


def holds_address(text: str, pattern: str) -> bool:
    """Whether an address of `pattern` (one address, `first-last` or a block) stands in a text."""
    wanted = _range(pattern)
    for run in _RUNS.finditer(text):
        try:
            found = ip_address(run[0])
        except ValueError:
            continue
        if found.version == wanted.version and wanted.first <= int(found) <= wanted.last:
            return True
    return False


def shape(pattern: str) -> str:
    """A regular expression (RE2) that every text matches where an address of `pattern` stands."""
    wanted = _range(pattern)
    if wanted.version == 6:
        return "[0-9A-Fa-f:]:"
    first, last = (number.to_bytes(4, "big") for number in (wanted.first, wanted.last))
    same = next((n for n in range(4) if first[n] != last[n]), 3)
    octets = [str(number) for number in first[:same]]
    octets.append(f"(?:{'|'.join(map(str, range(first[same], last[same] + 1)))})")
    return r"\.".join([*octets, *["[0-9]+"] * (3 - same)])
