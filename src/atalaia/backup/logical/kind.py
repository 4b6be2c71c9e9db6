"""The logical kind: globals and one directory dump a database, each file of them a member."""

from __future__ import annotations

import shutil
from dataclasses import replace

from atalaia.backup import checks
from atalaia.backup.kind import Made, Proof
from atalaia.backup.logical.archive import Archive, open_archive
from atalaia.backup.logical.contents import compared, evidence
from atalaia.backup.logical.dump import ATTEMPTS, GLOBALS, Crossed, Dumped, Plan, databases, dump, total
from atalaia.backup.logical.load import Counter, load, unlogged
from atalaia.backup.logical.partial import hanging, options, selected
from atalaia.backup.logical.progressed import Anew
from atalaia.backup.logical.sessions import Refused
from atalaia.backup.logical.streams import Kept
from atalaia.backup.logical.toc import parse, printable
from atalaia.backup.model import Backup, Progress, Untested, Wanted
from atalaia.backup.physical.journal import NAME as JOURNAL
from atalaia.backup.physical.journal import Journal, resume
from atalaia.backup.site import Site
from atalaia.backup.staging import staging
from atalaia.backup.vault.place import Damaged, PlaceError
from atalaia.backup.vault.reader import Reader
from atalaia.backup.vault.writer import Writer
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import init
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import set_password
from atalaia.postgres.control import was_shut_down
from atalaia.postgres.temporary import FAST, private, running, temporary

_COMPARED = "compared"  # the last phase of a restore's journal


class Logical:
    """pg_dump of each database, in parallel."""

    name = "logical"
    program = "pg_dump"

    def pack_name(self, site: Site, number: int) -> str:
        """`data-00000.pack` …"""
        return f"data-{number:05d}.pack"

    def make(self, cluster: Cluster, site: Site, backup: Backup, writer: Writer, progress: Progress) -> Made:
        """Dump what the settings select."""
        jobs = site.settings.jobs
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _make(cluster, site, writer, jobs, progress)
            except Crossed as error:
                if attempt == ATTEMPTS:
                    raise
                said = [line for line in error.what.splitlines() if "error:" in line] or [error.what]
                progress(f"{backup.id}: begins anew: {said[0].strip()}")
                writer.restart()
                jobs = 1  # a single connection holds all its locks from its beginning
        raise AssertionError

    def prove(self, site: Site, backup: Backup, reader: Reader, progress: Progress) -> Proof:
        """Restore into a temporary server, dump that without keeping it, compare; then the user's checks."""
        installation = site.installation(backup.major)
        progress(f"{backup.id}: restoring into a temporary PostgreSQL {installation.version}")
        seconds = 0.0
        try:
            with (
                temporary(installation, site.account, site.temporary, backup.settings) as cluster,
                staging(site.temporary) as place,
            ):
                archive = open_archive(reader)
                jobs = site.settings.jobs
                seconds = load(archive, cluster, place, progress, jobs=jobs)
                counter = Counter(progress, "comparing", archive.total(tuple(archive.folders)))
                plan = _again(backup, tuple(archive.folders), jobs)
                found = dump(cluster, plan, place, advance=counter)
                problem = _differences(backup, archive.dumped(), found)
                problem = problem or "; ".join(checks.failures(cluster, site, backup.server))
        except Refused as error:
            return Proof(seconds, error.what, installation.version)
        except (Untested, PlaceError, Damaged):
            raise
        except AtalaiaError as error:
            raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error
        return Proof(seconds, problem, installation.version)

    def fill(
        self, site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
    ) -> float:
        """Make a server, private while it is filled, and give its superuser a password of its own."""
        if wanted.target:
            raise InputError(
                f"{backup.id} is a logical backup: it restores to the moment it was made",
                "take a physical one for other moments",
            )
        if wanted.selection.schemas or wanted.selection.tables:
            raise InputError(
                "single schemas and tables are restored into a server that exists",
                "name that server, or leave them out to restore whole databases",
            )
        archive = open_archive(reader)
        unknown = [name for name in wanted.selection.databases if name not in archive.folders]
        if unknown:
            raise InputError(f"{backup.id} has no database {unknown[0]!r}", f"it has {', '.join(archive.folders)}")
        only = wanted.selection.databases
        path, what = cluster.directory / JOURNAL, f"{backup.id} {backup.sha256} {sorted(only)}"
        journal = resume(path, what)
        try:
            return _fill(site, backup, archive, cluster, wanted, progress, journal or Journal(path, what))
        except Anew:
            return _fill(site, backup, archive, cluster, wanted, progress, Journal(path, what))


def _fill(
    site: Site,
    backup: Backup,
    archive: Archive,
    cluster: Cluster,
    wanted: Wanted,
    progress: Progress,
    journal: Journal,
) -> float:
    """Make the server, or go on where the journal says that it was interrupted; seconds of the restore."""
    only = wanted.selection.databases
    if not journal.done:
        for folder in (cluster.data, cluster.log):
            shutil.rmtree(folder, ignore_errors=True)
        (cluster.directory / init.MARKER).unlink(missing_ok=True)
    with (
        private(replace(cluster, settings={**FAST, **cluster.settings})) as filling,
        staging(site.temporary) as place,
    ):
        crashed = False
        if journal.done:
            crashed = not was_shut_down(filling)
        else:
            init.initialise(filling, durable=False)
        init.mark(cluster, f"the restore of {backup.id}")
        if crashed and journal.phase == _COMPARED and any(unlogged(archive, name) for name in archive.folders):
            raise Anew("unlogged tables have lost their rows", "")
        with running(filling, unfinished=True):
            seconds = 0.0
            if journal.phase != _COMPARED:
                seconds = load(
                    archive, filling, place, progress, jobs=wanted.jobs, only=only, journal=journal, crashed=crashed
                )
                recorded = archive.dumped()
                kept = {name: one for name, one in recorded.databases.items() if not only or name in only}
                found = dump(filling, _again(backup, tuple(kept), wanted.jobs), place)
                problem = _differences(backup, recorded, found, tuple(kept))
                if problem:
                    raise AtalaiaError(f"{backup.id} could not be restored: {problem}", "restore another backup")
                # From here on its superuser's password differs from the backup's.
                journal.enter(_COMPARED)
            set_password(filling)
    return seconds


def _make(cluster: Cluster, site: Site, writer: Writer, jobs: int, progress: Progress) -> Made:
    settings = site.settings
    names, invalid = databases(cluster)
    plan = Plan(selected(names, settings), jobs, options(settings), settings.passwords)
    counter = Counter(progress, "dumping", total(cluster, plan.databases))
    with staging(site.temporary) as place:
        dumped = dump(cluster, plan, place, lambda name: Kept(writer, name), counter)
    if not dumped.databases:
        raise InputError(
            f"none of the schemas and tables that [backups] names exists on {cluster.name}", "correct atalaia.toml"
        )
    writer.member(GLOBALS).write(dumped.globals)
    folders = {name: f"{number:04d}" for number, name in enumerate(plan.databases, 1)}
    said = [
        *(f"the database {name} is not in the backup: a DROP DATABASE has left it invalid" for name in invalid),
        *(f"the database {name} is not in the backup: it has nothing that is selected" for name in dumped.nothing),
        *_left_out(plan.databases, names),
        *_keys(dumped),
        *dumped.said.splitlines(),
    ]
    details = {
        "databases": [[name, folders[name]] for name in dumped.databases],
        "options": list(plan.options),
        "passwords": plan.passwords,
    }
    return Made(evidence(dumped).summary(), details, "\n".join(said))


def _left_out(taken: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    left = [name for name in names if name not in taken]
    return [f"databases left out, as [backups] says: {', '.join(left)}"] if left else []


def _keys(dumped: Dumped) -> list[str]:
    return [
        f"{name}: the foreign key {printable(entry.name)} is left out: the rows that it leads to are not in the backup"
        for name, followed in dumped.databases.items()
        for entry in hanging(parse(followed.toc))
    ]


def _again(backup: Backup, names: tuple[str, ...], jobs: int) -> Plan:
    """How to dump a restored server so that it can be compared with the backup."""
    return Plan(names, jobs, tuple(backup.details["options"]), backup.details["passwords"])


def _differences(backup: Backup, recorded: Dumped, found: Dumped, only: tuple[str, ...] = ()) -> str:
    """What of a backup is not there again, in words; empty when all of it is."""
    expected = evidence(recorded)
    if expected.summary() != backup.contents:
        return "what is in it is not what the catalogue recorded when it was made"
    if only:
        expected = evidence(replace(recorded, databases={name: recorded.databases[name] for name in only}))
    different = compared(expected, evidence(found))
    return "restored, it differs: " + "; ".join(different) if different else ""
