"""A dump's file -> a running server, by psql that stops at the first error; and whether the two are alike."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup.model import Backup, Untested
from atalaia.backup.plain.contents import Contents, Reader, differences
from atalaia.backup.plain.dump import dumping
from atalaia.backup.plain.head import Head, relocated
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.places import make
from atalaia.postgres.tools import variables

# The machine's trouble, not the dump's.
TROUBLE = re.compile(
    r"No space left on device|out of memory|terminating connection|server closed the connection|"
    r"connection to server .* failed|extension \".*\" is not available|could not access file"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a restore went: `seconds` of psql alone; `problem` is empty when all of it is there again."""

    seconds: float
    problem: str


def load(text: Iterator[bytes], backup: Backup, cluster: Cluster) -> Loaded:
    """Restore a dump's text, in blocks, into a new, running, private server, then dump that server and compare.

    Raises Untested when the machine, not the dump, is in the way.
    """
    began = time.monotonic()
    expected, said = psql(text, cluster)
    seconds = time.monotonic() - began
    if said:
        return Loaded(seconds, f"psql could not restore it: {said}")
    if expected.summary() != backup.contents:
        return Loaded(seconds, "what is in its file is not what the catalogue recorded when it was made")
    try:
        found = contents_of(cluster)
    except AtalaiaError as error:
        raise Untested(f"the restored server could not be read: {error.what}", error.remedy) from error
    different = differences(expected, found)
    return Loaded(seconds, "restored, it differs: " + "; ".join(different) if different else "")


def contents_of(cluster: Cluster, reader: Reader | None = None) -> Contents:
    """What a dump of a running server would contain. Raises AtalaiaError when it cannot be dumped."""
    reader = reader or Reader()
    with dumping(cluster) as (blocks, outcome):
        for block in blocks:
            reader.feed(block)
        outcome()
    return reader.contents


def psql(text: Iterator[bytes], cluster: Cluster, reader: Reader | None = None) -> tuple[Contents, str]:
    """Feed the dump to psql; what was in it, and psql's error, empty when it succeeded.

    `reader` is what reads along. Raises Untested when the machine, not the dump, is in the way.
    """
    reader = reader or Reader()
    places: list[Path] = []

    def tablespace(number: int) -> str:
        # Never the directory of the original: that may be in use on this very machine.
        place = cluster.directory.resolve() / "tablespaces" / str(number)
        make(place.parent, None, cluster.account)
        make(place, cluster.account, mode=0o700)
        places.append(place)
        return str(place)

    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [
                cluster.installation.program("psql"),
                *("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            env=variables(environment_variables(cluster)),
            start_new_session=True,  # Ctrl-C is ours to handle: it must not look like an error of the dump
        )
        assert process.stdin
        try:
            head = Head(relocated(tablespace))
            for block in text:
                reader.feed(block)
                process.stdin.write(head.feed(block))
            process.stdin.write(head.finish())
            process.stdin.close()
        except BrokenPipeError:
            pass  # psql has stopped at an error, which it tells
        except BaseException:
            process.kill()
            raise
        finally:
            _close(process)
        errors.seek(0)
        said = errors.read(65_536).decode(errors="replace")
    if process.returncode == 0:
        return reader.contents, ""
    told = [line for line in said.splitlines() if "ERROR" in line or "FATAL" in line or "error:" in line]
    first = " ".join(told[:1]) or said.strip()[-500:] or f"exit status {process.returncode}"
    if process.returncode != 3 or TROUBLE.search(said):
        raise Untested(
            f"the restore could not be carried out: {first}",
            "this says nothing of the backup; correct it and try again",
        )
    return reader.contents, first


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()
