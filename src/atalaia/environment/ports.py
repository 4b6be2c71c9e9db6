"""Which port each service gets: explicit ones are checked, the others take the next free one and keep it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atalaia.environment.errors import ConfigurationError, InputError, Problem
from atalaia.environment.load import Environment

STORE = "store"
FIRST_SERVER_PORT = 5432
FIRST_STORE_PORT = 3100


@dataclass(frozen=True, slots=True)
class Ports:
    """`assigned` has a port for each server and for the store; `notices` tells of ports that had to change."""

    assigned: Mapping[str, int]
    notices: tuple[str, ...] = ()


def is_free(port: int, listen: Iterable[str]) -> bool:
    """Whether `port` can be bound on every address of `listen` that this machine has."""
    for address in listen:
        host = "0.0.0.0" if address == "*" else address  # noqa: S104 - only tried, to see whether it is taken
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the servers do: a port that only lingers in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                return False
    return True


def assign(environment: Environment, running: Mapping[str, int] = {}) -> Ports:
    """A port for every service; `running` has those that live services of this environment hold already.

    Raises ConfigurationError naming every explicit port that is taken by somebody else or given twice.
    """
    settings = environment.settings
    remembered: dict[str, int] = environment.state.remembered().get("ports", {})
    wanted: dict[str, tuple[int | None, tuple[str, ...]]] = {
        name: (server.port, server.listen) for name, server in settings.servers.items()
    }
    if settings.logs.url is None:
        wanted[STORE] = (settings.logs.port, (settings.logs.listen,))
    assigned: dict[str, int] = {}
    problems: list[Problem] = []
    for name, (explicit, listen) in wanted.items():
        if explicit is None:
            continue
        path = ("logs", "port") if name == STORE else ("servers", name, "port")
        owner = next((other for other, port in assigned.items() if port == explicit), None)
        if owner:
            problems.append(
                environment.problem(path, f"port {explicit} is given to {owner} already", "give each its own port")
            )
        elif running.get(name) != explicit and not is_free(explicit, listen):
            remedy = (
                f"stop what listens there (`ss -ltnp 'sport = :{explicit}'`), or give another port, or leave `port` out"
            )
            problems.append(environment.problem(path, f"port {explicit} is taken", remedy))
        assigned[name] = explicit
    if problems:
        raise ConfigurationError(problems)
    notices = []
    for name, (explicit, listen) in wanted.items():
        if explicit is not None:
            continue
        before = remembered.get(name)
        if name in running and running[name] not in assigned.values():
            assigned[name] = running[name]
        elif before is not None and before not in assigned.values() and is_free(before, listen):
            assigned[name] = before
        else:
            # A port that another service of this environment remembers is left to it.
            kept = {port for other, port in remembered.items() if other != name}
            assigned[name] = _next_free(name, listen, set(assigned.values()) | kept)
            if before is not None:
                notices.append(f"{name}: port {before} is taken by another program; using {assigned[name]} from now on")
    return Ports(assigned, tuple(notices))


def _next_free(name: str, listen: tuple[str, ...], taken: set[int]) -> int:
    first = FIRST_STORE_PORT if name == STORE else FIRST_SERVER_PORT
    for port in range(first, 65536):
        if port not in taken and is_free(port, listen):
            return port
    raise InputError(f"no free port from {first} up for {name}", "name one in atalaia.toml")
