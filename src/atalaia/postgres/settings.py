"""What Atalaia sets on every server: atalaia.conf, its block in pg_hba.conf, and the command line."""

from __future__ import annotations

import ipaddress
import os
import pwd
import secrets
from collections.abc import Mapping
from pathlib import Path

from atalaia.environment.state import sync_directory
from atalaia.postgres.cluster import SUPERUSER, Cluster, Setting
from atalaia.runtime.accounts import Account

CONF = "atalaia.conf"
# Ends in .log, because only then does PostgreSQL name the JSON file like it with .json in its place.
LOG_FILENAME = "postgresql-%Y-%m-%d_%H%M%S.log"
_BEGIN = "# atalaia: begin (rewritten at each start; add lines above or below)"
_END = "# atalaia: end"

_DEFAULTS: dict[str, Setting] = {
    "shared_buffers": "128MB",
    "max_connections": 100,
    "log_rotation_size": "32MB",
    "log_rotation_age": "1d",
    "log_truncate_on_rotation": False,
    "log_file_mode": "0640",
    "log_connections": True,
    "log_disconnections": True,
    "log_hostname": False,
    "log_lock_waits": True,
    "deadlock_timeout": "1s",
    "log_temp_files": 0,
    "log_checkpoints": True,
    "log_autovacuum_min_duration": "10s",
    "log_min_duration_statement": "1s",
    "log_min_error_statement": "error",
    "lc_messages": "C",
}


def managed(cluster: Cluster) -> dict[str, Setting]:
    """The settings that collection and connecting depend on. They are given on the command line too.

    Only there do they win over ALTER SYSTEM, whose postgresql.auto.conf is read after every other file.
    """
    return {
        "port": cluster.port,
        "listen_addresses": "" if cluster.socket else ",".join(cluster.listen),
        "unix_socket_directories": str(cluster.socket) if cluster.socket else "",
        "password_encryption": "scram-sha-256",
        "log_destination": "jsonlog",
        "logging_collector": True,
        "log_directory": str(cluster.log.resolve()),
        "log_filename": LOG_FILENAME,
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }


def command(cluster: Cluster, overriding: Mapping[str, Setting] | None = None) -> list[str]:
    """The command line of the server in the foreground; for `cluster.account`. `overriding` settings win over all."""
    arguments = [str(cluster.installation.program("postgres")), "-D", str(cluster.data.resolve())]
    for name, value in (managed(cluster) | dict(overriding or {})).items():
        arguments += ["-c", f"{name}={_plain(value)}"]
    return arguments


def text(cluster: Cluster) -> str:
    """The contents of atalaia.conf: defaults, managed settings, then the user's, so that they win."""
    parts = (
        ("Sane for a small server, and telling enough to diagnose from", _DEFAULTS),
        ("Decided by Atalaia; given on the command line too", managed(cluster)),
        ("From atalaia.toml", cluster.settings),
    )
    lines = ["# Written by Atalaia at each start. Put settings into atalaia.toml, under this server."]
    for title, values in parts:
        lines += ["", f"# {title}", *(f"{name} = {quoted(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _plain(value: Setting) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def quoted(value: Setting) -> str:
    """A value as postgresql.conf wants it: quotes doubled, backslashes and line ends escaped."""
    plain = _plain(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{plain}'"


def hba_block(cluster: Cluster) -> str:
    """Atalaia's lines of pg_hba.conf: SCRAM for loopback, for others only if the server listens beyond it."""
    lines = [_BEGIN]
    if cluster.socket:
        lines.append(f"local all {SUPERUSER} peer map=atalaia")
    else:
        sources = ["127.0.0.1/32", "::1/128"]
        if any(address == "*" or not ipaddress.ip_address(address).is_loopback for address in cluster.listen):
            sources += ["0.0.0.0/0", "::/0"]
        lines += [
            f"host {what:<11} all {source:<12} scram-sha-256" for what in ("all", "replication") for source in sources
        ]
    return "\n".join([*lines, _END]) + "\n"


def ident() -> str:
    """The line of pg_ident.conf that lets our own operating-system user in as superuser through a private socket."""
    return f'atalaia "{pwd.getpwuid(os.geteuid()).pw_name}" {SUPERUSER}\n'


def with_block(existing: str, block: str) -> str:
    """`existing` with Atalaia's block replaced by `block`; unchanged when a user has taken the block away."""
    head, begin, rest = existing.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    return head + block.rstrip("\n") + tail if begin and end else existing


def write(cluster: Cluster) -> None:
    """Bring the files in the data directory up to date; called before each start."""
    write_for(cluster.data / CONF, text(cluster), cluster.account)
    hba = cluster.data / "pg_hba.conf"
    write_for(hba, with_block(hba.read_text(errors="surrogateescape"), hba_block(cluster)), cluster.account)
    if cluster.socket:
        write_for(
            cluster.data / "pg_ident.conf",
            ident(),
            cluster.account,
        )


def write_for(path: Path, content: str, account: Account | None) -> None:
    """Replace a file in a directory that `account` owns, durably, giving it to `account` with mode 0600.

    The partial file has a new name and is never opened through a link: as root we write where another may
    write.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            if account:
                os.fchown(file.fileno(), account.uid, account.gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
