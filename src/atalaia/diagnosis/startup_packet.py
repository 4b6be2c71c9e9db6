"""Connections that do not begin as PostgreSQL's do: where they come from and who is likely to make them.

PostgreSQL logs neither the bytes nor, in its default log_line_prefix, the address. Facts (address, ports,
times) are said as facts; the kind of client is inferred from them and said to be likely, with the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from atalaia.diagnosis.clients import client_text, decode_protocol, length_of, likely, protocol_bytes
from atalaia.diagnosis.fill import fill
from atalaia.diagnosis.groups import Group
from atalaia.diagnosis.language import Language, number, phrases
from atalaia.diagnosis.sources import BY_PID
from atalaia.diagnosis.times import TimePattern

Place = Literal["loopback", "gateway", "private", "public", "local", "unknown"]
_NONSENSE = frozenset(
    {"startup_packet_length", "startup_packet_incomplete", "protocol_unsupported", "startup_no_user"}
    | {"startup_packet_layout", "unencrypted_after_ssl", "ssl_direct_without_alpn", "ssl_not_accepted"}
)
# Docker's default bridges, Docker Desktop, Podman, and the user-mode network of rootless containers and QEMU.
_GATEWAYS = {*(f"172.{n}.0.1" for n in range(17, 32)), "192.168.65.1", "10.88.0.1", "10.0.2.2"}
_PROMETHEUS_PERIODS = (15, 30, 60)
_PORTS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Suspect:
    """A kind of client that may have done it, why it is likely, and what to do if it was."""

    client: str
    name: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Story:
    """What can be said of a group of such connections: `notes` are facts, `suspects` likely, best first."""

    notes: tuple[str, ...]
    suspects: tuple[Suspect, ...]


def place_of(host: str) -> Place:
    """What kind of address `host` is; a name (log_hostname) is "unknown"."""
    if host == "[local]":
        return "local"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if str(address) in _GATEWAYS:
        return "gateway"
    return "public" if address.is_global else "private"


def is_about_startup(one: Group) -> bool:
    """Whether `one` is about connections that do not begin as PostgreSQL's do."""
    return one.kind is not None and one.kind.id in _NONSENSE


def story(
    one: Group, pattern: TimePattern, groups: Iterable[Group], values: Mapping[str, str], language: Language
) -> Story:
    """Notes and suspects for a group that `is_about_startup`; `groups` are searched for a scanner's other
    traces.
    """
    host = one.fields.get("remote_host", "")
    place = place_of(host) if host else "unknown"
    told = phrases(language)
    values = {**values, "host": host, "ports": _ports(one, language)}
    keys = [("note_host" if values["ports"] else "note_host_no_port") if host else "note_no_host"]
    if BY_PID in values:
        keys.append("note_host_by_pid")
    keys += {"loopback": ["note_loopback"], "gateway": ["note_gateway"], "public": ["note_public"]}.get(place, [])
    notes = [fill(told[key], values, language) for key in keys]
    others = _other_kinds(one, host, groups, language)
    if len(others) >= 2:
        notes.append(fill(told["note_scanner_evidence"], {"kinds": "; ".join(others)}, language))
    if one.kind is not None and one.kind.id == "protocol_unsupported":
        notes.append(_protocol_note(values, language))
    if one.kind is None or one.kind.id != "startup_packet_length":
        return Story(tuple(notes), ())
    ranked = list(likely(pattern.shape, place if place in ("loopback", "public") else "near"))
    if pattern.shape == "periodic" and round(pattern.period) in _PROMETHEUS_PERIODS and "prometheus" in ranked:
        ranked.sort(key=lambda client: client != "prometheus")
    if len(others) >= 2:
        ranked = ["scanner", *(client for client in ranked if client != "scanner")]
    return Story(tuple(notes), tuple(_suspect(client, values, language) for client in ranked))


def _ports(one: Group, language: Language) -> str:
    ports = sorted({int(port) for port in one.counts("remote_port") if port.isdigit()})
    if len(ports) <= _PORTS_SHOWN:
        return ", ".join(map(str, ports))
    return f"{ports[0]}–{ports[-1]} ({number(len(ports), language)})"


def _other_kinds(one: Group, host: str, groups: Iterable[Group], language: Language) -> list[str]:
    """What else of this sort the same host did to any server; a wrong protocol of a scanner counts double."""
    if not host:
        return []
    found = []
    for other in groups:
        if other is one or other.kind is None or not is_about_startup(other):
            continue
        if other.fields.get("remote_host") == host and other.kind.id != (one.kind.id if one.kind else ""):
            found.append(other.occurrences[0].message.text.split("\n")[0])
            protocol = decode_protocol(other.fields.get("major", ""), other.fields.get("minor", ""))
            if protocol and protocol.scanner:
                found.append(protocol.meaning[language])
    return sorted(set(found))


def _protocol_note(values: Mapping[str, str], language: Language) -> str:
    major, minor = values.get("major", ""), values.get("minor", "")
    protocol = decode_protocol(major, minor)
    told = phrases(language)
    if protocol is None:
        shown = protocol_bytes(major, minor).hex(" ")
        return fill(told["note_protocol_unknown"], {**values, "hex": shown}, language)
    return fill(told["note_protocol"], {**values, "meaning": protocol.meaning[language]}, language)


def _suspect(client: str, values: Mapping[str, str], language: Language) -> Suspect:
    texts = client_text(client, language)
    filled = {**values, "length": number(length_of(client), language)}
    return Suspect(client, *(fill(texts[part], filled, language) for part in ("name", "why", "remedy")))
