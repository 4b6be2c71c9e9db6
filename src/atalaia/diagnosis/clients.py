"""Whose first bytes PostgreSQL takes for a length or a protocol version (knowledge/clients.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from atalaia.diagnosis.language import Language


@dataclass(frozen=True, slots=True)
class FirstBytes:
    """Four bytes that begin a connection, as the startup packet's length that PostgreSQL takes them for."""

    data: bytes
    client: str

    @property
    def length(self) -> int:
        """The bytes as an unsigned 32-bit big-endian number, as ProcessStartupPacket reads them."""
        return int.from_bytes(self.data, "big")


@dataclass(frozen=True, slots=True)
class Protocol:
    """The beginning of bytes five to eight of a known client, and what it is in each language."""

    data: bytes
    scanner: bool
    meaning: Mapping[Language, str]


@cache
def _file() -> Mapping[str, Any]:
    folder = resources.files("atalaia.diagnosis.knowledge")
    return tomllib.loads(folder.joinpath("clients.toml").read_text(encoding="utf-8"))


@cache
def first_bytes() -> tuple[FirstBytes, ...]:
    """All known first bytes."""
    rows = _file()["first_bytes"]
    return tuple(FirstBytes(bytes.fromhex(h), row["client"]) for row in rows for h in row["hex"])


@cache
def protocols() -> tuple[Protocol, ...]:
    """All known wrong protocol versions."""
    return tuple(
        Protocol(bytes.fromhex(row["hex"]), row["scanner"], {"en": row["en"], "pt-BR": row["pt-BR"]})
        for row in _file()["protocol"]
    )


def protocol_bytes(major: str, minor: str) -> bytes:
    """The four bytes that "unsupported frontend protocol major.minor" was; b"" when the numbers cannot be 16
    bit.
    """
    numbers = [int(number) if number.isdigit() and len(number) <= 5 else -1 for number in (major, minor)]
    if not all(0 <= number <= 0xFFFF for number in numbers):
        return b""
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def decode_protocol(major: str, minor: str) -> Protocol | None:
    """Who asks for protocol major.minor, or None when nobody is known to."""
    data = protocol_bytes(major, minor)
    return next((one for one in protocols() if data and data.startswith(one.data)), None)


def client_text(client: str, language: Language) -> Mapping[str, str]:
    """`name`, `why` and `remedy` of a kind of client."""
    texts: Mapping[str, str] = _file()["client"][client][language]
    return texts


def length_of(client: str) -> int:
    """The length that this client's best known first bytes make; 0 when it has none of its own."""
    # A health check and Prometheus speak HTTP.
    alias = {"http_check": "http", "prometheus": "http"}.get(client, client)
    return next((row.length for row in first_bytes() if row.client == alias), 0)


def likely(shape: str, place: str) -> tuple[str, ...]:
    """Kinds of client for a time pattern at a place (loopback, near, public), most likely first."""
    return tuple(_file()["likely"][shape][place])
