"""Connecting to a server: over TCP with its password, or through the private socket of a temporary one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

import psycopg

from atalaia.environment.state import write_atomically
from atalaia.postgres.cluster import SUPERUSER, Cluster

# What the server answers while it cannot be used yet, or no longer (SQLSTATE 57P03, which libpq does not
# hand on).
_NOT_YET = re.compile(r"FATAL: +the database system is (starting up|shutting down|in recovery|not )")
_FATAL = re.compile(r"FATAL: +(.*)")


class Answer(Enum):
    """How a server answers a connection."""

    READY = "ready"
    WAITING = "not accepting connections yet"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer; `version` of the server when ready, else `reason` in words."""

    answer: Answer
    version: str = ""
    reason: str = ""


def connect(
    cluster: Cluster,
    dbname: str = "postgres",
    *,
    autocommit: bool = False,
    seconds: int = 10,
    replication: bool = False,
) -> psycopg.Connection:
    """Connect as superuser. Raises psycopg.OperationalError.

    Every parameter that a PG* variable of the user's shell could set is given. `replication` connects to a
    walsender, which takes replication commands in place of SQL.
    """
    parameters: dict[str, Any] = {
        "host": cluster.host,
        "port": cluster.port,
        "user": SUPERUSER,
        "dbname": dbname,
        "connect_timeout": seconds,
        "application_name": "atalaia",
        "client_encoding": "UTF8",
        "options": "",
        "sslmode": "prefer",
        "channel_binding": "prefer",
        "target_session_attrs": "any",
        "replication": "true" if replication else "false",
    }
    if not cluster.socket:
        parameters |= {"hostaddr": cluster.host, "password": cluster.password_file.read_text().strip()}
    return psycopg.connect(autocommit=autocommit, **parameters)


def ready(cluster: Cluster, seconds: int = 5) -> Readiness:
    """Whether the server takes a real connection, and is the one of this data directory."""
    try:
        with connect(cluster, autocommit=True, seconds=seconds) as connection:
            row = connection.execute("SELECT current_setting('data_directory')").fetchone()
            version = connection.info.parameter_status("server_version") or ""
    except psycopg.Error as error:
        return _why(str(error))
    if row is None or row[0] != str(cluster.data.resolve()):
        return Readiness(Answer.REFUSED, reason=f"another server answers on {cluster.host} port {cluster.port}")
    return Readiness(Answer.READY, version.split(" ")[0])


def _why(message: str) -> Readiness:
    fatal = _FATAL.search(message)
    if fatal and not _NOT_YET.search(message):
        return Readiness(Answer.REFUSED, reason=fatal[1].strip())
    return Readiness(Answer.WAITING, reason=(fatal[1] if fatal else message.splitlines()[0]).strip())


def said(error: Exception) -> str:
    """What a server or libpq said, in one line: without the hint that libpq adds, or the place in a statement."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Is the server running", "LINE ", "^"))]
    return telling[-1] if telling else type(error).__name__


def dsn(cluster: Cluster, dbname: str = "postgres") -> str:
    """The server's address as a URI, without the password."""
    host = f"[{cluster.host}]" if ":" in cluster.host else cluster.host.replace("/", "%2F")
    return f"postgresql://{SUPERUSER}@{host}:{cluster.port}/{dbname}"


def environment_variables(cluster: Cluster) -> dict[str, str]:
    """What libpq's programs need to reach the server; the password lies in a file of mode 0600, not in a
    variable.

    Anyone may read a process's variables who may read its memory, and many write theirs into logs.
    """
    given = {
        "PGHOST": cluster.host,
        "PGPORT": str(cluster.port),
        "PGUSER": SUPERUSER,
        "PGDATABASE": "postgres",
    }
    if cluster.socket:
        return given
    path = cluster.password_file.with_suffix(".pgpass")
    password = cluster.password_file.read_text().strip()
    fields = (cluster.host, str(cluster.port), "*", SUPERUSER, password)
    line = ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"
    if not path.is_file() or path.read_text() != line or path.stat().st_mode & 0o077:
        write_atomically(path, line, mode=0o600)
    return given | {"PGPASSFILE": str(path)}


def set_password(cluster: Cluster) -> None:
    """Give the superuser the password of the cluster's password file. Raises psycopg.Error.

    It is sent as a verifier: the password itself must not reach the server's log.
    """
    password = cluster.password_file.read_text().strip().encode()
    with connect(cluster, autocommit=True) as connection:
        verifier = connection.pgconn.encrypt_password(password, SUPERUSER.encode(), b"scram-sha-256")
        connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{verifier.decode()}'".encode())
