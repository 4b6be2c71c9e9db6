"""Backups beside PostgreSQL's own tools, pgBackRest and Barman: the same server, the same run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atalaia.backup.kinds import KINDS
from atalaia.environment.load import Environment
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.supervisor.layout import decide
from bench import backup_rivals, usage
from bench.backup_server import Empty, environment, size, started
from bench.table import Row
from bench.usage import Usage

# At most these shares of the tool beside; a proof's is of our own restore.
_LOGICAL, _PHYSICAL, _RESTORE, _RESTORE_PHYSICAL, _PROOF = 0.65, 1.15, 1.05, 1.0, 2.0
_MEMORY = 300.0  # MB
_TIMES = 2  # the better one counts: the first may wait for the disk


@dataclass(frozen=True, slots=True)
class Scene:
    """The environment with its server, and a folder for what is written."""

    environment: Environment
    cluster: Cluster
    scratch: Path

    @property
    def sql(self) -> Path:
        """The plain dump."""
        return self.scratch / "dump.sql"

    @property
    def directory(self) -> Path:
        """The raw dump in pg_dump's directory format."""
        return self.scratch / "dump"

    def program(self, name: str) -> str:
        """One of PostgreSQL's programs."""
        return str(self.cluster.installation.bindir / name)


def measure(folder: Path, scratch: Path) -> list[Row]:
    """All of the table. The server is made in `folder` once; what is written goes below `scratch`."""
    scratch.mkdir()
    scratch.chmod(0o755)
    _tell("the server to back up")
    found = environment(folder)
    scene = Scene(found, decide(found).clusters["bench"], scratch)
    _forget(found)
    logical = "logical" if "logical" in KINDS else "plain"
    rows, made = [], {}
    with started(scene.cluster):
        note = f"PostgreSQL {scene.cluster.installation.version}, two CPUs used by each"
        rows.append(Row("the server", size(scene.cluster) / 1e6, "MB", note=note))
        rows += (dumps := _dumps(scene))
        rows += _backup(scene, logical, dumps[0], _LOGICAL, made)
        rows += (bases := _base_backups(scene))
        if "physical" in KINDS:
            rows += _backup(scene, "physical", bases[1], _PHYSICAL, made)
    rows += (loads := _loads(scene))
    shutil.rmtree(scene.directory)
    scene.sql.unlink()
    restored = _restore(scene, logical, made, loads[1].value, _RESTORE, 1)
    share = (restored[0].value or 0) / (loads[-1].value or 1)
    rows += [replace(restored[0], note=f"{restored[0].note}; {share:.2f} of that without fsync"), *restored[1:]]
    others = list(_others(scene))
    rows += others
    if "physical" in made:
        beside = next((row.value for row in others if row.what == "pgBackRest restore"), None)
        rows += _restore(scene, "physical", made, beside, _RESTORE_PHYSICAL, _TIMES)
    return rows


def _dumps(scene: Scene) -> list[Row]:
    """pg_dumpall and pg_dump; the .sql and the raw directory stay, to be restored. The first is what ours is beside."""
    _tell("pg_dumpall, pg_dump")
    given = environment_variables(scene.cluster)
    packed, directory = scene.scratch / "dump.zst", scene.directory
    piped = f"{scene.program('pg_dumpall')} | zstd -q -f -3 -T2 -o {packed}"
    dump = [scene.program("pg_dump"), "-Fd", "-j2", "-f", str(directory), "bench"]
    rows = [
        _row("pg_dumpall | zstd -3 -T2", _best(lambda: usage.run(piped, given)), packed),
        _row(
            "pg_dumpall, plain .sql",
            _best(lambda: usage.run([scene.program("pg_dumpall"), "-f", str(scene.sql)], given)),
            scene.sql,
        ),
        _row("pg_dump -Fd -j2, gzip", _best(lambda: usage.run(dump, given), directory), directory),
    ]
    return [*rows, _row("pg_dump -Fd -j2, raw", _best(lambda: usage.run([*dump, "-Z0"], given), directory), directory)]


def _base_backups(scene: Scene) -> list[Row]:
    """pg_basebackup to nowhere, and compressed by a pipe, which ours is beside."""
    _tell("pg_basebackup")
    given = environment_variables(scene.cluster)
    packed = scene.scratch / "base.zst"
    base = f"{scene.program('pg_basebackup')} -Ft -D - -X fetch -c fast"
    nowhere = _best(lambda: usage.run(f"{base} > /dev/null", given))
    piped = _best(lambda: usage.run(f"{base} | zstd -q -f -3 -T2 -o {packed}", given))
    rows = [Row("pg_basebackup -Ft to nowhere", nowhere.seconds, "s", note=nowhere.note)]
    rows.append(_row("pg_basebackup -Ft | zstd -3 -T2", piped, packed))
    packed.unlink()
    return rows


def _loads(scene: Scene) -> list[Row]:
    """psql and pg_restore into new servers; the last is with the settings that ours restores with."""
    _tell("psql, pg_restore")
    empty = Empty(scene.scratch / "empty", scene.cluster)
    psql = f"{scene.program('psql')} -qX -o /dev/null -f {scene.sql} postgres"  # its errors: roles that exist
    restore = f"{scene.program('pg_restore')} -j2 -C -d postgres {scene.directory}"
    rows = []
    for what, command, fast in (
        ("psql of the .sql", psql, False),
        ("pg_restore -j2", restore, False),
        ("pg_restore -j2, server without fsync", restore, True),
    ):
        with empty.server(fast=fast) as cluster:
            done = usage.run(command, environment_variables(cluster))
        rows.append(Row(what, done.seconds, "s", note=done.note))
    return rows


def _others(scene: Scene) -> Iterator[Row]:
    """pgBackRest and Barman, or that one is missing."""
    _tell("pgBackRest, Barman")
    for found in backup_rivals.measure(scene.cluster, scene.scratch):
        if isinstance(found, str):
            yield Row(found, None, "s")
            continue
        yield Row(f"{found.name} backup", found.backup.seconds, "s", note=_note(found.backup, found.stored))
        yield Row(f"{found.name} restore", found.restore.seconds, "s", note=found.restore.note)


def _backup(scene: Scene, kind: str, beside: Row, share: float, made: dict[str, str]) -> list[Row]:
    """Ours, encrypted; `made` gets its id."""
    _tell(f"our {kind} backup")
    runs = [_ours(scene, "now", kind) for _ in range(_TIMES)]
    made[kind] = runs[-1][1]["id"]
    best, told = min(runs, key=lambda run: run[0].seconds)
    row = _judged(f"atalaia: {kind} backup, encrypted", best.seconds, beside.value, share, _note(best, told["size"]))
    return [row, _memory(best)]


def _restore(
    scene: Scene, kind: str, made: dict[str, str], beside: float | None, share: float, times: int
) -> list[Row]:
    """Ours: the restore's own time and the whole command; then the proof."""
    _tell(f"our restore of the {kind} backup, and its proof")
    runs = []
    for _ in range(times):
        runs.append(_ours(scene, "restore", made[kind]))
        shutil.rmtree(runs[-1][1]["directory"])
    used, told = min(runs, key=lambda run: run[1]["seconds"])
    alone = float(told["seconds"])
    proofs = [_ours(scene, "verify", made[kind]) for _ in range(times)]
    proof, judged = min(proofs, key=lambda run: run[0].seconds)
    note = f"{proof.note}; {judged['state']} {judged['detail']}"
    return [
        _judged(f"atalaia: {kind} restore", alone, beside, share, used.note),
        Row("  the whole command", used.seconds, "s", note="initdb, comparing, syncing to disk"),
        _memory(used),
        _judged(f"atalaia: {kind} proof", proof.seconds, alone, _PROOF, note),
        _memory(proof),
    ]


def _ours(scene: Scene, action: str, what: str) -> tuple[Usage, dict[str, Any]]:
    command = [sys.executable, "-m", "bench.backing", str(scene.environment.folder), action, what]
    done = usage.run(command, cwd=Path(__file__).parents[1])
    return done, json.loads(done.output)


def _judged(what: str, value: float, beside: float | None, share: float, note: str) -> Row:
    if beside is None:
        return Row(what, value, "s", note=note)
    verdict = f"{value / beside:.2f} of it, {'reached' if value <= beside * share else 'MISSED'} ({share})"
    return Row(what, value, "s", beside * share, note=f"{verdict}; {note}")


def _memory(used: Usage) -> Row:
    return Row("  memory", used.peak, "MB", _MEMORY, note="" if used.peak <= _MEMORY else "MISSED")


def _row(what: str, used: Usage, made: Path) -> Row:
    files = [made] if made.is_file() else list(made.iterdir())
    return Row(what, used.seconds, "s", note=_note(used, sum(file.stat().st_size for file in files)))


def _note(used: Usage, stored: int) -> str:
    return f"{stored / 1e6:,.0f} MB; {used.note}"


def _best(work: Callable[[], Usage], made: Path | None = None) -> Usage:
    """The best of some times; the directory `made` must not be there before each."""
    runs = []
    for _ in range(_TIMES):
        if made and made.exists():
            shutil.rmtree(made)
        runs.append(work())
    return min(runs, key=lambda run: run.seconds)


def _forget(found: Environment) -> None:
    """What an earlier run has left: backups, restored servers."""
    state = found.state
    for path in (state.root / "backups", state.root / "restored", state.root / "temporary"):
        shutil.rmtree(path.resolve(), ignore_errors=True)
        path.unlink(missing_ok=True) if path.is_symlink() else None
    state.backup_catalogue.unlink(missing_ok=True)


def _tell(what: str) -> None:
    print(f"bench: {what} …", file=sys.stderr, flush=True)
