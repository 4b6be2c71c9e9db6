"""What every kind of backup does: make one, restore it, prove it. `kinds` lists those that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from atalaia.backup.model import Backup, Progress, Wanted
from atalaia.backup.site import Site
from atalaia.backup.vault.reader import Reader
from atalaia.backup.vault.writer import Writer
from atalaia.postgres.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Made:
    """What making a backup found: see Backup for the fields; `said` are warnings, one a line."""

    contents: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """How a restore test went: `seconds` of the restore alone; `problem` is empty when all of it is there again."""

    seconds: float
    problem: str
    server_version: str = ""


class Kind(Protocol):
    """A kind of backup. Progress is told in whole lines."""

    name: str
    program: str
    """The PostgreSQL program whose version is the client's."""

    def pack_name(self, site: Site, number: int) -> str:
        """The name of an object of it."""

    def make(self, cluster: Cluster, site: Site, backup: Backup, writer: Writer, progress: Progress) -> Made:
        """Write a running server's data into `writer`. Raises AtalaiaError; nothing is left then."""

    def prove(self, site: Site, backup: Backup, reader: Reader, progress: Progress) -> Proof:
        """Restore into a temporary server of the same major version and compare. Raises Untested, Damaged."""

    def fill(
        self, site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
    ) -> float:
        """Fill a new server's directory, which exists and is empty, and leave it stopped; seconds of the restore.

        The superuser's password is then that of the cluster's password file, which exists. Raises AtalaiaError;
        InputError for what this kind cannot do (a target without WAL).
        """


Kinds = Mapping[str, Kind]
