"""What a running server holds, to compare a restored one with: its databases and a fingerprint of their objects."""

from __future__ import annotations

from typing import Any

import psycopg

from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

_USERS = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    " AND n.nspname !~ '^pg_(toast_)?temp_' AND {alias}.oid >= 16384"
)
# Whole rows of the system's catalogues with their xmin: a physical copy has the same, to the letter, and whoever
# changed an object, or made it again, has changed them. Columns of pg_class that VACUUM and ANALYZE write are left out.
_OBJECTS = f"""
SELECT format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
         ELSE 'table' END, n.nspname, c.relname),
  left(md5(concat_ws('|', c.oid, c.xmin, c.relowner, c.relkind, c.relpersistence, c.relacl, c.reloptions,
    c.relrowsecurity,
    (SELECT string_agg(concat(a.xmin, a.*), ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid),
    (SELECT string_agg(concat(d.xmin, d.*), ',' ORDER BY d.oid) FROM pg_attrdef d WHERE d.adrelid = c.oid),
    (SELECT string_agg(concat(k.xmin, k.*), ',' ORDER BY k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid),
    (SELECT string_agg(concat(i.indexrelid, i.indkey), ',' ORDER BY i.indexrelid)
       FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid),
    (SELECT string_agg(concat(t.xmin, t.*), ',' ORDER BY t.oid) FROM pg_trigger t WHERE t.tgrelid = c.oid),
    (SELECT string_agg(concat(p.xmin, p.*), ',' ORDER BY p.oid) FROM pg_policy p WHERE p.polrelid = c.oid),
    (SELECT string_agg(concat(r.xmin, r.*), ',' ORDER BY r.oid) FROM pg_rewrite r WHERE r.ev_class = c.oid))), 16)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {_USERS.format(alias="c")}
UNION ALL
SELECT format('function %I.%I %s', n.nspname, p.proname, p.oid), left(md5(concat(p.xmin, p.*)), 16)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_USERS.format(alias="p")}
UNION ALL
SELECT format('type %I.%I', n.nspname, t.typname), left(md5(concat(t.xmin, t.*,
    (SELECT string_agg(concat(e.xmin, e.*), ',' ORDER BY e.oid) FROM pg_enum e WHERE e.enumtypid = t.oid))), 16)
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typrelid = 0 AND t.typelem = 0 AND {_USERS.format(alias="t")}
UNION ALL
SELECT format('extension %I %s', extname, extversion), left(md5(concat(e.xmin, e.*)), 16)
  FROM pg_extension e WHERE oid >= 16384
UNION ALL
SELECT format('schema %I', nspname), left(md5(concat(n.xmin, n.*)), 16)
  FROM pg_namespace n WHERE {_USERS.format(alias="n")}
"""
_ROLES = """
SELECT format('role %I', rolname), left(md5(concat(a.xmin, a.*, (SELECT string_agg(concat(m.xmin, m.*), ','
       ORDER BY m.roleid, m.member) FROM pg_auth_members m WHERE m.member = a.oid))), 16)
  FROM pg_authid a WHERE oid >= 16384
"""
_DATABASES = "SELECT datname, oid::int8, datallowconn FROM pg_database ORDER BY oid"
_SETTINGS = (
    "SET search_path = pg_catalog; SET timezone = 'UTC'; SET bytea_output = 'hex'; SET statement_timeout = 600000"
)


def contents(cluster: Cluster) -> dict[str, Any]:
    """`databases`, each with its `oid` and `objects`: name -> fingerprint; `roles` likewise. Raises psycopg.Error."""
    with connect(cluster, autocommit=True) as connection:
        connection.execute(_SETTINGS)
        databases = connection.execute(_DATABASES).fetchall()
        roles: dict[str, str] = dict(connection.execute(_ROLES.encode()).fetchall())
    found: dict[str, Any] = {}
    for name, oid, open_ in databases:
        objects: dict[str, str] = {}
        if open_:
            with connect(cluster, name, autocommit=True) as connection:
                connection.execute(_SETTINGS)
                objects = dict(connection.execute(_OBJECTS.encode()).fetchall())
        found[name] = {"oid": oid, "tables": {}, "objects": objects}
    return {"databases": found, "roles": roles}


def stable(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was there all the time: with the same fingerprint before and after. Of databases, those there after."""
    earlier = before["databases"]
    databases = {}
    for name, found in after["databases"].items():
        there = name in earlier and earlier[name]["oid"] == found["oid"]
        objects = _both(earlier[name]["objects"], found["objects"]) if there else {}
        databases[name] = found | {"objects": objects, "stable": there}
    return {"databases": databases, "roles": _both(before["roles"], after["roles"])}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """How a restored server differs from what was there all the time during the backup."""
    different = _differences("", expected["roles"], found["roles"])
    for name, database in expected["databases"].items():
        if not database["stable"]:
            continue
        restored = found["databases"].get(name)
        if restored is None or restored["oid"] != database["oid"]:
            different.append(f"the database {name!r} is missing")
            continue
        different += _differences(f" of {name!r}", database["objects"], restored["objects"])
    return different


def count(contents: dict[str, Any]) -> int:
    """How many objects are compared."""
    return len(contents["roles"]) + sum(len(database["objects"]) for database in contents["databases"].values())


def _both(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    return {name: seen for name, seen in after.items() if before.get(name) == seen}


def _differences(where: str, expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return [
        f"the {name}{where} is {'missing' if name not in found else 'different'}"
        for name, seen in sorted(expected.items())
        if found.get(name) != seen
    ]


def gather(cluster: Cluster) -> tuple[dict[str, Any], str]:
    """`contents`, or, best effort, what is in the way of reading them."""
    try:
        return contents(cluster), ""
    except psycopg.Error as error:
        nothing: dict[str, Any] = {"databases": {}, "roles": {}}
        return nothing, str(error).strip().splitlines()[0]
