"""`[[backups.check]]`: what users ask of a restored server, in SQL, before a backup counts as verified."""

from __future__ import annotations

import psycopg

from atalaia.backup.site import Site
from atalaia.environment.backing import CheckSettings
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect


def failures(cluster: Cluster, site: Site, server: str) -> list[str]:
    """Ask a running server, restored from a backup of `server`; what it did not answer with true, in words.

    Each check must return one row whose first column is true. It runs in a transaction that may not write.
    """
    asked = [check for check in site.settings.check if not check.servers or server in check.servers]
    return [problem for check in asked if (problem := _failure(cluster, check))]


def _failure(cluster: Cluster, check: CheckSettings) -> str:
    name = f"the check {check.name or ' '.join(check.sql.split())!r}"
    try:
        with connect(cluster, check.database) as connection:
            connection.read_only = True
            cursor = connection.execute(check.sql.encode())
            while cursor.nextset():
                pass
            rows = cursor.fetchmany(2) if cursor.description else []
    except psycopg.Error as error:
        said = str(error).strip().splitlines()
        return f"{name} failed: {said[0] if said else type(error).__name__}"
    if len(rows) != 1:
        return f"{name} returned {'more than one row' if rows else 'no row'} in place of one"
    answer = rows[0][0] if rows[0] else None
    return "" if answer is True else f"{name} answered {answer!r} in place of true"
