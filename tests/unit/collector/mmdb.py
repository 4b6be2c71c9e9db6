"""A small MaxMind database, written as its format describes (https://maxmind.github.io/MaxMind-DB/)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping


def database(networks: Mapping[str, object]) -> bytes:
    """A database of IPv6 (IPv4 below ::/96) whose networks have these records."""
    nodes: list[list[object]] = [[None, None]]
    for text, record in networks.items():
        network = ipaddress.ip_network(text)
        address, length = int(network.network_address), network.prefixlen
        if network.version == 4:
            length += 96
        node = nodes[0]
        for bit in range(length - 1):
            side = address >> (127 - bit) & 1
            if node[side] is None:
                nodes.append([None, None])
                node[side] = len(nodes) - 1
            index = node[side]
            assert isinstance(index, int)
            node = nodes[index]
        node[address >> (128 - length) & 1] = (record,)
    data, tree = b"", b""
    for node in nodes:
        for side in node:
            if isinstance(side, tuple):
                tree += (len(nodes) + 16 + len(data)).to_bytes(4, "big")
                data += _value(side[0])
            else:
                tree += (len(nodes) if side is None else side).to_bytes(4, "big")  # type: ignore[attr-defined]
    metadata = {
        "node_count": len(nodes), "record_size": _Short(32), "ip_version": _Short(6), "database_type": "Test",
        "languages": ["en"], "binary_format_major_version": _Short(2), "binary_format_minor_version": _Short(0),
        "build_epoch": _Long(1), "description": {},
    }  # fmt: skip
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _value(metadata)


class _Short(int):
    """An unsigned integer of 16 bits."""


class _Long(int):
    """One of 64."""


def _value(value: object) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return _head(2, len(text)) + text
    if isinstance(value, float):
        return _head(3, 8) + struct.pack(">d", value)
    if isinstance(value, _Short):
        return _head(5, 2) + value.to_bytes(2, "big")
    if isinstance(value, _Long):
        return bytes([8, 9 - 7]) + value.to_bytes(8, "big")
    if isinstance(value, int):
        return _head(6, 4) + value.to_bytes(4, "big")
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(_value(key) + _value(one) for key, one in value.items())
    assert isinstance(value, list)
    return bytes([len(value), 11 - 7]) + b"".join(map(_value, value))


def _head(kind: int, size: int) -> bytes:
    return bytes([kind << 5 | size]) if size < 29 else bytes([kind << 5 | 29, size - 29])
