"""Values that several kinds of listeners have in a promtail.yaml."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from atalaia.collector.promtail.values import checked, labels_from
from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader
from atalaia.runtime.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every address of the machine, port 0 any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """HOST:PORT, :PORT or [IPV6]:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if ":" in host.strip("[]"):
        ipaddress.IPv6Address(host.strip("[]"))
    return Address(host.strip("[]"), int(port))


def address(reader: Reader, node: Node | None, what: str) -> Address | None:
    """The node as an address; None for none or a wrong one."""
    text = reader.text(node, what)
    if node is None or text is None:
        return None
    try:
        return parse_address(text)
    except ValueError as error:
        reader.problem(node, f"{what}: {error}", "write HOST:PORT, such as 0.0.0.0:1514")
        return None


def constant_labels(reader: Reader, node: Node | None, what: str) -> dict[str, str]:
    """Labels that every entry of a listener gets."""
    return {name: value for name, value in labels_from(reader, node, what).items() if value}


def seconds(reader: Reader, node: Node | None, what: str, default: float) -> float:
    """A duration such as 120s, in seconds."""
    found = checked(reader, node, what, parse_duration)
    return default if found is None else found / 1e9


def number(reader: Reader, node: Node | None, what: str, default: int, least: int = 1) -> int:
    """A whole number from `least` on."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    found = checked(reader, node, what, convert)
    return default if found is None else found


def server_tls(reader: Reader, node: Node | None, what: str, ca: str = "ca_file") -> TlsFiles | None:
    """The PEM files of a server's TLS; with a file of authorities clients must show a certificate."""
    given = reader.mapping(node, what, {"cert_file", "key_file", ca, "min_version", "client_auth_type"})
    for unbuilt in ("min_version", "client_auth_type"):
        text = reader.text(given.get(unbuilt), f"{what}.{unbuilt}")
        if text not in (None, "TLS12", "RequireAndVerifyClientCert"):
            reader.problem(given[unbuilt], f"{what}.{unbuilt} {text!r} is not built", "leave it out: TLS 1.2 or newer")
    paths = {name: reader.text(given.get(name), f"{what}.{name}") for name in ("cert_file", "key_file", ca)}
    if not any(paths.values()):
        return None
    if not paths["cert_file"] or not paths["key_file"]:
        remedy = "give cert_file and key_file"
        reader.problem(next(iter(given.values())), f"{what} needs a certificate and a key", remedy)
        return None
    for name, path in paths.items():
        if path and not Path(path).is_file():
            reader.problem(given[name], f"{name} {path}: there is no such file", "give the path of a PEM file")
    authority = paths[ca]
    return TlsFiles(Path(paths["cert_file"]), Path(paths["key_file"]), Path(authority) if authority else None)


def bind(place: Address, kind: socket.SocketKind, what: str) -> socket.socket:
    """A bound socket, TCP's listening too. Raises InputError that names the job (`what`)."""
    last: OSError | None = None
    for host in [place.host] if place.host else ["::", "0.0.0.0"]:  # noqa: S104 - as the file says
        try:
            found = socket.getaddrinfo(host, place.port, type=kind, flags=socket.AI_PASSIVE)
            family, _, protocol, _, where = found[0]
            bound = socket.socket(family, kind, protocol)
        except OSError as error:
            last = error
            continue
        try:
            if family == socket.AF_INET6 and not place.host:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            if kind == socket.SOCK_STREAM:
                bound.listen(1024)
            return bound
        except OSError as error:
            bound.close()
            last = error
    why = last.strerror if last else "no address"
    raise InputError(f"{what} cannot listen on {place}: {why}", "stop what listens there, or choose another address")


def own_address(bound: socket.socket) -> str:
    """HOST:PORT of a bound socket."""
    where = bound.getsockname()
    return str(Address(where[0], where[1]))
