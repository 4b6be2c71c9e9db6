"""Runs PostgreSQL's own programs: in the C locale, without the caller's PG* variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.runtime.accounts import Account


def variables(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own environment without PG*, LC_* and LANG, plus `extra`.

    A PGSERVICE, PGOPTIONS or PGHOSTADDR in the user's shell would lead programs to another server, and
    messages must be in English to be recognised.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "PSQL")) and name not in ("LANG", "LANGUAGE")
    }
    return kept | {"LC_ALL": "C"} | dict(extra or {})


def run(
    arguments: Sequence[str | Path],
    *,
    account: Account | None = None,
    extra: Mapping[str, str] | None = None,
    seconds: float = 600,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, both outputs captured as text; its exit status is the caller's to judge.

    Raises AtalaiaError when it cannot be started or does not end within `seconds`.
    """
    try:
        return subprocess.run(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",  # the account may not be able to stand where we do
            env=variables(extra),
            timeout=seconds,
            check=False,
            pass_fds=pass_fds,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            umask=0o077,
        )
    except OSError as error:
        who = f" as {account.name}" if account else ""
        raise AtalaiaError(
            f"{arguments[0]} could not be started{who}: {error.strerror or error}",
            "check that the file and every directory above it may be executed by that account",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AtalaiaError(
            f"{arguments[0]} did not end within {seconds:.0f} s and was stopped",
            "look at the load of the machine and its disk, then try again",
        ) from error
