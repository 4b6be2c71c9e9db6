"""Starts, recognises, waits for and stops the server of a data directory."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.postgres import connect, init, settings
from atalaia.postgres.cluster import Cluster, Setting
from atalaia.postgres.places import make
from atalaia.postgres.tools import run, variables
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process

# Fast shutdown, with patience for a long checkpoint; then immediate, which the next start recovers from.
STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 15.0))


def start(cluster: Cluster, *, unfinished: bool = False, overriding: Mapping[str, Setting] | None = None) -> Process:
    """Write the settings and start the server; it is not ready yet (see wait_ready).

    `unfinished` is for whoever is preparing the directory and has marked it so; `overriding` settings win over
    those of every file.
    Raises AtalaiaError when the data directory is not ready for this version, or the program cannot be
    started.
    """
    if not unfinished:
        init.require(cluster, init.Condition.READY)
    make(cluster.log, cluster.account)
    settings.write(cluster)
    return processes.start(
        settings.command(cluster, overriding), output=cluster.stderr, account=cluster.account, variables=variables()
    )


def postmaster(cluster: Cluster) -> Process | None:
    """The running server of this data directory, whoever started it; None when there is none.

    The PID comes from postmaster.pid. It is ours when the process is called postgres and stands in the data
    directory. Patroni compares start times as well; here that would be wall clock against boot clock, and a
    corrected clock would disown a healthy server. From then on PID and start time (in ticks since boot)
    identify it.
    """
    data = cluster.data.resolve()
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        found = Process.of(pid)
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return None
    return found if found and name == "postgres" and folder == data and found.alive() else None


def accepting(cluster: Cluster) -> bool:
    """Whether postmaster.pid says that connections are taken (line 8, as pg_ctl reads it); no connection is made."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")


def wait_ready(cluster: Cluster, process: Process, seconds: float = 60) -> str:
    """Wait for the first real connection; the server's version.

    Raises AtalaiaError with the server's own last words when it ends, refuses us, or is not ready in
    `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = connect.ready(cluster)
        if seen.answer is connect.Answer.READY:
            return seen.version
        where = f"{cluster.name} ({cluster.host} port {cluster.port})"
        if seen.answer is connect.Answer.REFUSED:
            raise AtalaiaError(f"{where} runs but refuses Atalaia: {seen.reason}", _refused(cluster, seen.reason))
        if process.wait(0.05):
            process.reap()
            raise AtalaiaError(
                f"{where} ended while starting:\n    {last_words(cluster)}",
                f"more in {cluster.stderr} and {cluster.log}",
            )
        if time.monotonic() > deadline:
            raise AtalaiaError(
                f"{where} is not ready after {seconds:.0f} s: {seen.reason}",
                f"recovery after a crash can take long; watch {cluster.log}",
            )


def lasting_refusal(cluster: Cluster, reason: str) -> str:
    """What to do about a refusal that waiting does not mend (password, pg_hba.conf, another server); else empty."""
    lasting = any(word in reason for word in ("password", "pg_hba.conf", "another server"))
    return _refused(cluster, reason) if lasting else ""


def _refused(cluster: Cluster, reason: str) -> str:
    if "password" in reason:
        return (
            f"its password was changed: put the one that is valid into {cluster.password_file}, or "
            "reset it with ALTER ROLE"
        )
    if "another server" in reason:
        return f"stop that server (`ss -ltnp 'sport = :{cluster.port}'`), or give this one another port"
    if "pg_hba.conf" in reason:
        return f"let the loopback addresses in again: {cluster.data / 'pg_hba.conf'}"
    return f"see {cluster.log}"


def last_words(cluster: Cluster, lines: int = 5) -> str:
    """The last lines of the server's stderr.log, for an error message."""
    try:
        with cluster.stderr.open("rb") as file:
            file.seek(max(0, cluster.stderr.stat().st_size - 8192))
            said = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        said = []
    return "\n    ".join(said[-lines:]) or "it said nothing"


def stop(process: Process, patience: float = 60) -> bool:
    """Fast shutdown with `patience` in seconds, then immediate shutdown; True once the server has ended."""
    (first, _), *rest = STOP_STEPS
    return processes.stop(process, ((first, patience), *rest))


def was_shut_down(cluster: Cluster) -> bool:
    """Whether a server that does not run was stopped in order; after a crash its unlogged tables are empty."""
    done = run([cluster.installation.program("pg_controldata"), str(cluster.data)], account=cluster.account)
    return re.search(r"^Database cluster state: +shut down$", done.stdout, re.MULTILINE) is not None
