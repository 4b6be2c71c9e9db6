"""Configuration that came with a copy of a server and must not act in the copy: it is left out, and told."""

from __future__ import annotations

import re
from pathlib import Path

from atalaia.postgres.cluster import Cluster
from atalaia.postgres.settings import CONF, write_for

NOTE = "# left out of this copy by Atalaia's restore: "
# Where the original stands, listens, archives to, streams from, waits for. A copy must do none of it.
_HARMFUL = re.compile(
    r"data_directory|config_file|hba_file|ident_file|external_pid_file|log_directory|port|listen_addresses"
    r"|unix_socket_(?:directories|group|permissions)|bonjour(?:_name)?|archive_\w+|restore_command|recovery_\w+"
    r"|primary_\w+|synchronous_standby_names|synchronized_standby_slots|sync_replication_slots|promote_trigger_file"
    r"|cluster_name",
    re.IGNORECASE,
)
_LINE = re.compile(r"\s*([A-Za-z_][\w.$]*)\s*(?:=\s*|\s)(.*)")
_DEPTH = 10  # as deep as PostgreSQL follows includes


def leave_out(cluster: Cluster) -> list[str]:
    """Comment out what must not act, in postgresql.conf, what it includes, and postgresql.auto.conf; what it was.

    Files outside the data directory are not included any more. Raises OSError.
    """
    told: list[str] = []
    for name in ("postgresql.conf", "postgresql.auto.conf"):
        _file(cluster, cluster.data / name, told, 0)
    return told


def _file(cluster: Cluster, path: Path, told: list[str], depth: int) -> None:
    if depth > _DEPTH or path.is_symlink() or not path.is_file() or path.name == CONF:
        return
    lines = path.read_text(errors="surrogateescape").split("\n")
    kept = []
    for line in lines:
        found = _LINE.match(line)
        name, value = (found[1].lower(), _plain(found[2])) if found else ("", "")
        if name in ("include", "include_if_exists", "include_dir"):
            included = path.parent / value
            if included.resolve().is_relative_to(cluster.data.resolve()):
                for each in sorted(included.glob("*.conf")) if name == "include_dir" else [included]:
                    _file(cluster, each, told, depth + 1)
                kept.append(line)
                continue
        elif not _HARMFUL.fullmatch(name):
            kept.append(line)
            continue
        told.append(f"{name} = {value}")
        kept.append(f"{NOTE}{line.strip()}")
    if kept != lines:
        write_for(path, "\n".join(kept), cluster.account)


def _plain(value: str) -> str:
    """A value without quotes and comment."""
    quoted = re.match(r"'((?:[^']|'')*)'", value)
    return quoted[1].replace("''", "'") if quoted else value.split("#", 1)[0].strip()
