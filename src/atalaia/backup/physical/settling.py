"""Makes a recovered copy one of its own: puts right what would act on the original's surroundings, or is not whole."""

from __future__ import annotations

import psycopg
from psycopg import sql

from atalaia.backup.model import Progress, Wanted
from atalaia.backup.physical.recovery import Recovered
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import connect

# pg_database.datconnlimit of a database whose DROP was interrupted, DATCONNLIMIT_INVALID_DB in catalog/pg_database.h.
_INVALID = -2


def settle(server: Recovered, wanted: Wanted, kept: frozenset[int], progress: Progress) -> None:
    """No subscription takes from a publisher, no database is there that is empty, those `kept` (OIDs) can be used.

    Raises AtalaiaError; InputError when a database that is wanted is not there.
    """
    cluster, names = server.cluster, wanted.selection.databases
    try:
        with connect.connect(cluster, autocommit=True) as connection:
            subscriptions = connection.execute(
                "SELECT datname, subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE subenabled"
            ).fetchall()
            # The files of these are there: recovery has stopped before the record that removes them.
            kept_names = connection.execute(
                "UPDATE pg_database SET datconnlimit = -1 WHERE oid = ANY(%s) AND datconnlimit = %s RETURNING datname",
                (list(kept), _INVALID),
            ).fetchall()
            for (name,) in kept_names:
                progress(f"{name} was being dropped: it is there as it was, without a limit of connections")
            there: dict[str, int] = dict(connection.execute("SELECT datname, datconnlimit FROM pg_database").fetchall())
            for name in (name for name, limit in there.items() if limit == _INVALID and not names):
                progress(f"{name} was being dropped then and cannot be used: drop it, or restore to an earlier moment")
            if missing := set(names) - set(there):
                raise InputError(f"there was no database {', '.join(sorted(missing))} then", "give another moment")
            for name in there if names else ():
                if name not in {*names, "postgres", "template0", "template1"}:
                    own = sql.Identifier(name)
                    if there[name] == _INVALID:  # it can only be dropped
                        connection.execute(sql.SQL("DROP DATABASE {}").format(own))
                        continue
                    connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(own))
                    connection.execute(sql.SQL("DROP DATABASE {}").format(own))
        for database, name in subscriptions:
            if there[database] == _INVALID or (names and database not in names):
                continue
            with connect.connect(cluster, database, autocommit=True) as connection:
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
            progress(
                f"the subscription {name} of {database} is disabled in the copy: it would take the original's data"
            )
    except psycopg.Error as error:
        raise AtalaiaError(f"the restored server could not be prepared: {str(error).strip()}", "tell of it") from error
