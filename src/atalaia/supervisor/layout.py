"""What an environment comes to on this machine: ports, server directories, addresses. Written down for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atalaia.environment import ports as port_choice
from atalaia.environment.connection import Connection, connection_of
from atalaia.environment.load import Environment
from atalaia.environment.ports import STORE
from atalaia.environment.secrets import own_token
from atalaia.postgres import cluster as clusters
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.runtime.process import Process

COLLECTOR = "collector"
BACKUP = "backup"
SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True)
class Layout:
    """`store_port` is None when logs go to a Loki elsewhere."""

    environment: Environment
    clusters: Mapping[str, Cluster]
    store_port: int | None
    notices: tuple[str, ...] = ()

    @property
    def logs_url(self) -> str:
        """The base address of the log store."""
        return self.connection.base

    @property
    def connection(self) -> Connection:
        """How the environment's parts reach the log store."""
        found = connection_of(self.environment, self.store_port)
        assert found is not None
        return found


def process_file_of(environment: Environment, service: str) -> Process | None:
    """The running process of one of Atalaia's own services."""
    return Process.read(environment.state.run / f"{service}.json")


def decide(environment: Environment) -> Layout:
    """Choose what is open and remember it.

    Raises ConfigurationError for taken ports, InputError for missing binaries.
    """
    before: dict[str, int] = environment.state.remembered().get("ports", {})
    environment.state.create()
    own_token(environment.state)
    running: dict[str, int] = {}
    # A port held by our own server, up already, is not taken.
    for name in environment.settings.servers:
        if name in before and control.postmaster(clusters.of(environment, name, before[name])):
            running[name] = before[name]
    if STORE in before and process_file_of(environment, STORE):
        running[STORE] = before[STORE]
    chosen = port_choice.assign(environment, running)
    environment.state.remember(ports={**before, **chosen.assigned})
    return _layout(environment, chosen.assigned, chosen.notices)


def recall(environment: Environment) -> Layout | None:
    """What was decided before; None when nothing was, or when the file has servers since that never ran."""
    before: dict[str, int] = environment.state.remembered().get("ports", {})
    wanted = set(environment.settings.servers) | ({STORE} if environment.settings.logs.url is None else set())
    return _layout(environment, before, ()) if wanted <= before.keys() else None


def _layout(environment: Environment, assigned: Mapping[str, int], notices: tuple[str, ...]) -> Layout:
    found = {name: clusters.of(environment, name, assigned[name]) for name in environment.settings.servers}
    store = assigned[STORE] if environment.settings.logs.url is None else None
    return Layout(environment, found, store, notices)
