"""The physical kind: the files of a server and the WAL that makes them consistent, full or incremental."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC

import psycopg

from atalaia.backup import checks
from atalaia.backup.kind import Made, Proof
from atalaia.backup.model import Backup, Progress, Untested, Wanted
from atalaia.backup.physical import base, chain, contents, proof, restoring, targets
from atalaia.backup.physical.chain import Parent
from atalaia.backup.physical.recovery import OWN_END, Unrecoverable, WalSource, recovered
from atalaia.backup.physical.settling import settle
from atalaia.backup.physical.walsender import Refused
from atalaia.backup.site import Site
from atalaia.backup.vault.place import Damaged, PlaceError
from atalaia.backup.vault.reader import Reader
from atalaia.backup.vault.writer import Writer
from atalaia.backup.wal.feed import feeding
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import init
from atalaia.postgres.cluster import SUMMARIES, Cluster
from atalaia.postgres.connect import connect, set_password
from atalaia.postgres.temporary import private, vacant

_CHOOSING = (
    *("databases", "exclude_databases", "schemas", "exclude_schemas"),
    *("tables", "exclude_tables", "exclude_data"),
)
_NO_SUMMARIES = "55000"  # object_not_in_prerequisite_state: WAL summaries are missing


@dataclass(frozen=True, slots=True)
class Physical:
    """A base backup; `incremental` builds on the newest one that can be built on."""

    name = "physical"
    program = "postgres"
    incremental: bool = False

    def pack_name(self, site: Site, number: int) -> str:
        """`data-00000.pack` and so on."""
        return f"data-{number:05d}.pack"

    def make(self, cluster: Cluster, site: Site, backup: Backup, writer: Writer, progress: Progress) -> Made:
        """Take a base backup, with what the server holds just before and after it."""
        source = base.look(cluster)
        parent = self._parent(cluster, site, source) if self.incremental else Parent()
        before, problem = contents.gather(cluster)
        said = _ignored(site)
        if parent.why:
            said.append(f"a full backup was made: {parent.why}")
        if parent.backup:
            progress(f"{backup.id}: incremental, on {parent.backup.id}")
        try:
            taken = base.take(cluster, source, backup, writer, parent.manifest or None, progress)
        except Refused as error:
            if not parent.backup or error.sqlstate != _NO_SUMMARIES:
                raise
            said.append(f"a full backup was made: {error.what}")
            progress(f"{backup.id}: {said[-1]}")
            writer.restart()
            parent = Parent()
            taken = base.take(cluster, source, backup, writer, None, progress)
        details = taken.details | {"stop_time": _now(cluster)}
        after, again = contents.gather(cluster)
        if problem or again:
            said.append(f"what is in it could not be recorded for comparison: {problem or again}")
        return Made(
            contents.stable(before, after),
            details,
            "\n".join(said + taken.said),
            parent.backup.id if parent.backup else "",
        )

    def prove(self, site: Site, backup: Backup, reader: Reader, progress: Progress) -> Proof:
        """Restore into a temporary server; check files, pages and objects, read every row."""
        installation = site.installation(backup.major)
        progress(f"{backup.id}: restoring into a temporary PostgreSQL {installation.version}")
        wanted = Wanted(jobs=site.settings.jobs)
        try:
            with vacant(installation, site.account, site.temporary, backup.settings) as cluster:
                init.mark(cluster, f"the test of {backup.id}")
                seconds, problem = _test(site, backup, reader, cluster, wanted, progress)
        except (Untested, PlaceError, Damaged):
            raise
        except Unrecoverable as error:
            return Proof(0.0, error.what, installation.version)
        except AtalaiaError as error:
            raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error
        return Proof(seconds, problem, installation.version)

    def fill(
        self, site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
    ) -> float:
        """Lay out the files, recover to the target, give the superuser a password of its own.

        Of a selection only the databases count: they are restored whole, the others are not there then.
        """
        began = time.monotonic()
        if wanted.target:
            targets.check(backup, wanted.target)
        init.mark(cluster, f"the restore of {backup.id}")
        journal, _ = restoring.lay_out(site, backup, reader, cluster, wanted, progress)
        with contextlib.ExitStack() as stack:
            source = OWN_END
            if wanted.target:
                feed = stack.enter_context(
                    feeding(site, backup.server, cluster, backup.details, wanted.target, progress)
                )
                details = backup.details
                source = WalSource(
                    feed.restore_command,
                    feed.target,
                    feed.finish,
                    targets.lsn(details["start_lsn"]),
                    feed.end,
                    details["wal_segment_size"],
                    feed.kept,
                )
            filling = stack.enter_context(private(cluster))
            server = stack.enter_context(recovered(filling, wanted, source, journal, progress))
            settle(server, wanted, source.kept, progress)
            set_password(filling)
            seconds = time.monotonic() - began
        restoring.finish(cluster)
        return seconds

    def _parent(self, cluster: Cluster, site: Site, source: base.Source) -> Parent:
        """What to build on. Raises InputError when the server can make no incremental backup at all."""
        if cluster.installation.major < SUMMARIES:
            raise InputError(
                f"{cluster.name} is PostgreSQL {cluster.installation.major}, which makes no incremental backups",
                f"make full ones, or upgrade it to {SUMMARIES} or newer",
            )
        if not source.summarizes:
            raise InputError(
                f"{cluster.name} keeps no WAL summaries, without which there is no incremental backup",
                "set `summarize_wal = true` in the settings of the server, then make a full backup first",
            )
        return chain.parent(site, cluster.name, source)


def _test(
    site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
) -> tuple[float, str]:
    """Restore into `cluster` and look at everything; seconds of the restore alone, and what is wrong."""
    began = time.monotonic()
    journal, parts = restoring.lay_out(site, backup, reader, cluster, wanted, progress)
    seconds = time.monotonic() - began
    progress(f"{backup.id}: checking its files")
    if problem := proof.files_problem(cluster, [*parts[-1:], cluster.data], progress):
        return seconds, problem
    began = time.monotonic()
    with private(cluster) as hidden, recovered(hidden, wanted, OWN_END, journal, progress) as server:
        seconds += time.monotonic() - began
        progress(f"{backup.id}: reading every row")
        compared = proof.compare(backup, server.cluster, wanted.jobs)
        problem = compared.problem or "; ".join(checks.failures(server.cluster, site, backup.server))
    if problem:
        return seconds, problem
    progress(f"{backup.id}: {compared}")
    if backup.details["checksums"]:
        progress(f"{backup.id}: checking every page with pg_checksums")
        return seconds, proof.pages_problem(cluster)
    return seconds, ""


def _ignored(site: Site) -> list[str]:
    """Settings of [backups] that choose a part of a server, which a physical backup cannot."""
    names = [name for name in _CHOOSING if getattr(site.settings, name)]
    names += [] if site.settings.passwords else ["passwords"]
    return (
        [f"{', '.join(names)} of [backups] mean nothing here: a physical backup holds all of a server"] if names else []
    )


def _now(cluster: Cluster) -> str:
    """The server's time, in UTC."""
    with contextlib.suppress(psycopg.Error), connect(cluster, autocommit=True) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row
        return str(row[0].astimezone(UTC).isoformat())
    raise AtalaiaError(f"{cluster.name} went away just after the backup", "try again")
