"""The plain kind: one member, `dump.sql`; unencrypted, its object is a file that `zstd -dc` reads."""

from __future__ import annotations

from dataclasses import replace

from atalaia.backup.kind import Made, Proof
from atalaia.backup.model import Backup, Progress, Untested, Wanted
from atalaia.backup.plain import dump
from atalaia.backup.plain.load import load
from atalaia.backup.site import Site
from atalaia.backup.vault.place import PlaceError
from atalaia.backup.vault.reader import Reader
from atalaia.backup.vault.writer import Writer
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import init
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import set_password
from atalaia.postgres.temporary import FAST, private, running, temporary

MEMBER = "dump.sql"
_ENDINGS = {"zstd": ".zst", "lz4": ".lz4", "none": ""}


class Plain:
    """pg_dumpall's text."""

    name = "plain"
    program = "pg_dumpall"

    def pack_name(self, site: Site, number: int) -> str:
        """`dump.sql.zst`; `.sealed` follows when it is encrypted. There is one."""
        ending = _ENDINGS[site.settings.compression] + (".sealed" if site.settings.encryption else "")
        return f"{MEMBER}{ending}" if number == 0 else f"{MEMBER}{ending}.{number}"

    def make(self, cluster: Cluster, site: Site, backup: Backup, writer: Writer, progress: Progress) -> Made:
        """Dump all databases."""
        contents, said = dump.write(cluster, writer, MEMBER)
        return Made(contents.summary(), said=said)

    def prove(self, site: Site, backup: Backup, reader: Reader, progress: Progress) -> Proof:
        """Restore into a temporary server, dump that, compare."""
        installation = site.installation(backup.major)
        progress(f"{backup.id}: restoring into a temporary PostgreSQL {installation.version}")
        try:
            with temporary(installation, site.account, site.temporary, backup.settings) as cluster:
                loaded = load(reader.stream(MEMBER), backup, cluster)
        except (Untested, PlaceError):
            raise
        except AtalaiaError as error:
            raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error
        return Proof(loaded.seconds, loaded.problem, installation.version)

    def fill(
        self, site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
    ) -> float:
        """Make a server, private while it is filled, and give its superuser a password of its own."""
        if wanted.target or not wanted.selection.everything:
            raise InputError(
                f"{backup.id} is a plain backup: it restores as a whole, to the moment it was made",
                "take a logical backup for single tables, a physical one for other moments",
            )
        # Nobody else may connect while it is filled; it is synced once at the end instead of at every commit.
        with private(replace(cluster, settings={**FAST, **cluster.settings})) as filling:
            init.initialise(filling, durable=False)
            init.mark(cluster, f"the restore of {backup.id}")
            with running(filling, unfinished=True):
                loaded = load(reader.stream(MEMBER), backup, filling)
                if loaded.problem:
                    raise AtalaiaError(f"{backup.id} could not be restored: {loaded.problem}", "restore another backup")
                set_password(filling)
        return loaded.seconds
