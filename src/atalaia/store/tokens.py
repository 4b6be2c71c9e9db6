"""Bloom filters of variable tokens, one a row group, as docs/store-format.md describes them."""

from __future__ import annotations

import re

import numpy as np

SHORTEST = 5
_BITS, _PROBES = 10, 7
_OFFSET, _PRIME, _MIX = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3), np.uint64(0xFF51AFD7ED558CCD)
_SHIFT, _HALF, _LOW = np.uint64(33), np.uint64(32), np.uint64(0xFFFFFFFF)
_INNER = re.compile(r"(?<=[^A-Za-z0-9])[A-Za-z0-9]+(?=[^A-Za-z0-9])")
_DIGIT = re.compile(r"[0-9]")


def inner_tokens(text: str) -> list[str]:
    """The tokens that every line with `text` in it has, and that filters know."""
    return [t for t in _INNER.findall(text) if len(t) >= SHORTEST and _DIGIT.search(t)]


def hashes(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The hash (uint64) of each token raw[start:end]; `raw` is uint8."""
    lengths = ends - starts
    order = np.argsort(-lengths, kind="stable")
    at, left = starts[order], lengths[order]
    found = np.full(len(order), _OFFSET)
    for position in range(int(left[0]) if len(left) else 0):
        # Tokens stand by falling length: those that still have a byte here come first.
        count = int(np.searchsorted(-left, -position, side="left"))
        found[:count] = (found[:count] ^ raw[at[:count] + position]) * _PRIME
    found ^= found >> _SHIFT
    found *= _MIX
    found ^= found >> _SHIFT
    result = np.empty_like(found)
    result[order] = found
    return result


def hash_of(token: str) -> int:
    """The hash of one token."""
    raw = np.frombuffer(token.encode(), np.uint8)
    return int(hashes(raw, np.array([0]), np.array([len(raw)]))[0])


def bloom(found: np.ndarray) -> bytes:
    """The filter of a group's token hashes (uint64, repeats allowed); empty for none."""
    distinct = np.unique(found)
    if not len(distinct):
        return b""
    size = -(-len(distinct) * _BITS // 64) * 64
    bits = np.zeros(size, np.uint8)
    for probe in range(_PROBES):
        bits[_position(distinct, probe, np.uint64(size))] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def may_hold(filters: np.ndarray, offsets: np.ndarray, wanted: list[int]) -> np.ndarray:
    """Which groups may have all tokens of these hashes; filter g is the bytes `filters[offsets[g]:offsets[g + 1]]`."""
    starts, sizes = offsets[:-1].astype(np.int64), (np.diff(offsets) * 8).astype(np.uint64)
    possible = (sizes > 0) if wanted else np.ones(len(sizes), bool)
    for number in wanted:
        for probe in range(_PROBES):
            at = np.flatnonzero(possible)
            if not len(at):
                return possible
            position = _position(np.uint64(number), probe, sizes[at])
            byte = filters[starts[at] + (position >> np.uint64(3)).astype(np.int64)]
            possible[at] = (byte >> (position & np.uint64(7)).astype(np.uint8)) & 1
    return possible


def _position(number: np.ndarray | np.uint64, probe: int, size: np.ndarray | np.uint64) -> np.ndarray:
    step = (number >> _HALF) | np.uint64(1)
    with np.errstate(over="ignore"):
        return ((number & _LOW) + np.uint64(probe) * step) % size
