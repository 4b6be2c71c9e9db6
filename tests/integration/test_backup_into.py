"""Tables, schemas and databases out of a backup into another server, with all that belongs to them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from backup_sample import everything, fill
from wal_support import flushed, streaming

from atalaia.backup import service
from atalaia.backup.model import Selection, Target, Wanted
from atalaia.backup.restoring import marks, reach
from atalaia.backup.restoring.into import Into, put
from atalaia.backup.restoring.plan import plan
from atalaia.backup.site import Site
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.runtime.process import Process

SHOP = """
CREATE ROLE clerk;
CREATE ROLE unknown_there;
CREATE SCHEMA shop AUTHORIZATION clerk;
CREATE TYPE shop.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
CREATE FUNCTION shop.even(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 2 = 0';
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN NEW.stamped := 'by trigger; $q$'; RETURN NEW; END$$;
CREATE SEQUENCE shop.tickets START 100 INCREMENT 10;
CREATE TABLE shop.customers (id int PRIMARY KEY, name text);
CREATE TABLE shop.orders (
  id serial PRIMARY KEY,
  number bigint GENERATED ALWAYS AS IDENTITY,
  customer int NOT NULL REFERENCES shop.customers,
  mood shop.mood DEFAULT 'ok', amount shop.positive,
  code text UNIQUE, stamped text,
  ticket bigint DEFAULT nextval('shop.tickets'),
  double int GENERATED ALWAYS AS (amount * 2) STORED,
  CONSTRAINT evens CHECK (shop.even(id + id)));
CREATE INDEX "by code; lower" ON shop.orders (lower(code)) WHERE amount > 1;
CREATE STATISTICS shop.together ON customer, mood FROM shop.orders;
CREATE TRIGGER stamp BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.stamp();
COMMENT ON TABLE shop.orders IS 'what was ''ordered''';
COMMENT ON COLUMN shop.orders.code IS 'a code';
COMMENT ON INDEX shop."by code; lower" IS 'an index';
GRANT SELECT ON shop.orders TO clerk, unknown_there;
GRANT UPDATE (code) ON shop.orders TO clerk;
ALTER TABLE shop.orders OWNER TO clerk;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop.orders TO clerk, unknown_there USING (amount > 0);
CREATE TABLE shop."orders x" (id int REFERENCES shop.orders);
CREATE TABLE shop.events (at int, what text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM (0) TO (100);
CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES FROM (100) TO (200);
CREATE INDEX events_what ON shop.events (what);
INSERT INTO shop.customers SELECT i, 'customer ' || i FROM generate_series(1, 10) i;
INSERT INTO shop.orders (customer, amount, code) SELECT 1 + i % 10, i, E'c\\\\\\t' || i FROM generate_series(1, 500) i;
INSERT INTO shop.events SELECT i, 'event ' || i FROM generate_series(0, 199) i;
"""

# What a table is, in the words of the server's own catalogue.
_LOOKS = {
    "columns": "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text, attgenerated::text,"
    " pg_get_expr(adbin, adrelid), attacl::text, col_description(attrelid, attnum) FROM pg_attribute LEFT JOIN"
    " pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = %(t)s::regclass AND attnum > 0"
    " ORDER BY attnum",
    "constraints": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %(t)s::regclass"
    " ORDER BY 1",
    "indexes": "SELECT pg_get_indexdef(indexrelid), obj_description(indexrelid) FROM pg_index WHERE"
    " indrelid = %(t)s::regclass ORDER BY 1",
    "triggers": "SELECT pg_get_triggerdef(t.oid), p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE"
    " tgrelid = %(t)s::regclass AND NOT tgisinternal",
    "policies": "SELECT polname, pg_get_expr(polqual, polrelid), (SELECT count(*) FROM unnest(polroles)) FROM pg_policy"
    " WHERE polrelid = %(t)s::regclass",
    "statistics": "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = %(t)s::regclass",
    "table": "SELECT relowner::regrole::text, relacl::text, relrowsecurity, obj_description(oid), relkind::text FROM"
    " pg_class WHERE oid = %(t)s::regclass",
    "sequences": "SELECT sequencename, last_value, increment_by FROM pg_sequences WHERE schemaname = 'shop' ORDER BY 1",
    "partitions": "SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) FROM pg_inherits JOIN pg_class"
    " ON oid = inhrelid WHERE inhparent = %(t)s::regclass ORDER BY 1",
}


def looks(cluster: Cluster, database: str, table: str) -> dict[str, Any]:
    with connect(cluster, database, autocommit=True) as connection:
        seen = {what: connection.execute(query.encode(), {"t": table}).fetchall() for what, query in _LOOKS.items()}
        seen["rows"] = sorted(map(repr, connection.execute(f"SELECT * FROM {table}".encode()).fetchall()))
        return seen


@pytest.fixture
def logical(site: Site) -> Site:
    return replace(site, settings=BackupsSettings(kind="logical"))


def run(cluster: Cluster, text: str, database: str = "postgres") -> None:
    with connect(cluster, database, autocommit=True) as connection:
        connection.execute(text.encode())


def wanted(*tables: str, schemas: tuple[str, ...] = (), databases: tuple[str, ...] = ("postgres",)) -> Wanted:
    return Wanted(selection=Selection(databases, schemas, tables))


def test_a_table_lands_in_another_server_with_all_that_belongs_to_it(new_server: Any, site: Site) -> None:
    source, there = new_server("postgres_a"), new_server("postgres_b")
    run(source, SHOP)
    run(there, "CREATE ROLE clerk")
    original, events = looks(source, "postgres", "shop.orders"), looks(source, "postgres", "shop.events")
    backup = service.backup_now(source, site, verify=False)
    run(source, "DROP TABLE shop.orders CASCADE; DROP TABLE shop.events")

    done = put(site, backup, wanted("shop.orders", "shop.customers", "shop.events"), Into(there), lambda _: None)

    assert done.tables == {"shop.orders": 500, "shop.customers": 10, "shop.events_1": 100, "shop.events_2": 100}
    found = looks(there, "postgres", "shop.orders")
    # The role that is not there has no part in it: told, not made.
    original["table"] = [(*original["table"][0][:1], found["table"][0][1], *original["table"][0][2:])]
    assert "unknown_there" not in found["table"][0][1]
    assert found["table"][0][1] == "{clerk=arwdDxt/clerk}"
    original["policies"] = [(*original["policies"][0][:2], 1)]
    assert found == original
    assert looks(there, "postgres", "shop.events") == events
    assert any("no role unknown_there" in remark for remark in done.remarks)
    assert any("orders x" in remark and "FOREIGN KEY" in remark for remark in done.remarks)
    with connect(there) as connection:
        assert not connection.execute("SELECT FROM pg_roles WHERE rolname = 'unknown_there'").fetchall()
        # It goes on working: the trigger fires, keys and sequences continue.
        row = connection.execute(
            "INSERT INTO shop.orders (customer, amount) VALUES (1, 2) RETURNING id, number, ticket, stamped, double"
        ).fetchone()
        assert row == (501, 501, 5100, "by trigger; $q$", 4)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO shop.orders (customer, amount) VALUES (99, 2)")
    assert list(site.temporary.iterdir()) == []

    # Again: nothing is overwritten, and all that is in the way is told.
    before = everything(there)
    with pytest.raises(InputError, match=r"table shop\.customers, table shop\.events, .*table shop\.orders") as error:
        put(site, backup, wanted("shop.orders", "shop.customers", "shop.events"), Into(there), lambda _: None)
    assert "--rename-schema" in error.value.remedy
    assert everything(there) == before


@pytest.mark.parametrize("major", [16, 18])
def test_a_table_of_a_physical_backup_at_a_given_time_lands_in_another_server(
    new_server: Any, site: Site, major: int
) -> None:
    source, there = new_server("postgres_a", major=major), new_server("postgres_b", major=major)
    run(source, SHOP)
    run(there, "CREATE ROLE clerk; CREATE ROLE unknown_there")
    backup = service.backup_now(source, site, kind="physical", verify=False)
    with streaming(source, site) as received:
        run(source, "UPDATE shop.orders SET code = code || ' at the time'; INSERT INTO shop.events VALUES (-0, 'x')"
            " ON CONFLICT DO NOTHING; DELETE FROM shop.orders WHERE id > 400")  # fmt: skip
        original, events = looks(source, "postgres", "shop.orders"), looks(source, "postgres", "shop.events")
        with connect(source, autocommit=True) as connection:
            (moment,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
        run(source, "UPDATE shop.orders SET code = 'later ' || id; DROP TABLE shop.events; DROP SCHEMA shop CASCADE")
        received.archived(flushed(source))

    back = replace(wanted("shop.orders", "shop.customers", "shop.events"), target=Target(time=moment))
    way = reach.describe(site, plan(site, backup, back, site.temporary))
    assert way.wal.startswith(backup.details["start_lsn"])
    assert not way.problem
    done = put(site, backup, back, Into(there, "rescued"), lambda _: None)

    assert done.databases == {"rescued": True}
    assert done.tables == {"shop.orders": 400, "shop.customers": 10, "shop.events_1": 100, "shop.events_2": 100}
    assert looks(there, "rescued", "shop.orders") == original
    assert looks(there, "rescued", "shop.events") == events
    assert list(site.temporary.iterdir()) == []


def test_a_table_lands_beside_the_one_that_is_there_under_another_schema(new_server: Any, site: Site) -> None:
    server = new_server()
    run(server, SHOP)
    backup = service.backup_now(server, site, verify=False)
    run(server, 'DELETE FROM shop."orders x"; DELETE FROM shop.orders WHERE id > 3')
    before = everything(server)

    done = put(site, backup, wanted("shop.orders"), Into(server, renamed={"shop": "rescued"}), lambda _: None)

    assert done.tables == {"shop.orders": 500}
    assert any("no table shop.customers" in remark for remark in done.remarks)
    with connect(server, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM rescued.orders").fetchone() == (500,)
        connection.execute(
            b"INSERT INTO shop.orders (id, number, customer, mood, amount, code, stamped, ticket) OVERRIDING SYSTEM"
            b" VALUE SELECT id, number, customer, mood::text::shop.mood, amount, code, stamped, ticket"
            b" FROM rescued.orders ON CONFLICT DO NOTHING"
        )
        assert connection.execute("SELECT count(*) FROM shop.orders").fetchone() == (500,)
        connection.execute("DELETE FROM shop.orders WHERE id > 3; DROP SCHEMA rescued CASCADE")
    assert everything(server) == before


@pytest.mark.parametrize("kind", ["plain", "logical"])
def test_a_schema_and_a_database_land_whole_in_a_new_database(new_server: Any, site: Site, kind: str) -> None:
    site = replace(site, settings=BackupsSettings(kind=kind))
    source, there = new_server("postgres_a"), new_server("postgres_b")
    fill(source, rows=200)
    original = everything(source)
    backup = service.backup_now(source, site, verify=False)

    done = put(site, backup, wanted(databases=("Upper",)), Into(there, "Upper again"), lambda _: None)

    assert done.databases == {"Upper again": True}
    found = everything(there)["Upper again"]
    for what in ("functions", "enums", "constraints", "comments", "extensions", "columns"):
        assert found[what] == original["Upper"][what], what
    rows = {what: rows for what, rows in original["Upper"].items() if what.startswith("rows of")}
    assert {what: found[what] for what in rows} == rows
    assert [blob[2] for blob in found["large objects"]] == [blob[2] for blob in original["Upper"]["large objects"]]
    with pytest.raises(InputError, match="has a database 'Upper again' already"):
        put(site, backup, wanted(databases=("Upper",)), Into(there, "Upper again"), lambda _: None)

    # vector is an extension in public, which the schema needs; the new database gets it.
    done = put(site, backup, wanted(schemas=("shop",), databases=("Upper",)), Into(there, "only shop"), lambda _: None)
    found = everything(there)["only shop"]
    assert {what: found[what] for what in rows if " shop." in what} == {
        what: rows[what] for what in rows if " shop." in what
    }
    assert done.tables["shop.items"] == 207


def test_a_database_lands_whole_where_its_roles_are_not(new_server: Any, logical: Site) -> None:
    source, there = new_server("postgres_a"), new_server("postgres_b")
    run(source, SHOP)
    run(source, "CREATE ROLE idle; CREATE SCHEMA own AUTHORIZATION clerk; CREATE VIEW own.v AS SELECT 1 AS one")
    run(source, "SELECT lo_from_bytea(4711, 'large')")
    original = looks(source, "postgres", "shop.orders")
    backup = service.backup_now(source, logical, verify=False)
    roles = "SELECT rolname FROM pg_roles ORDER BY 1"
    with connect(there) as connection:
        before = connection.execute(roles.encode()).fetchall()

    done = put(logical, backup, wanted(), Into(there, "again"), lambda _: None)

    found = looks(there, "again", "shop.orders")
    for what in ("rows", "constraints", "indexes", "triggers", "sequences"):
        assert found[what] == original[what], what
    assert [one[:-2] for one in found["columns"]] == [one[:-2] for one in original["columns"]]
    assert found["table"][0][0] == "postgres"
    assert done.remarks == (
        "there is no role clerk here: what it owned belongs to postgres",
        "there is no role unknown_there here: what it owned belongs to postgres",
    )
    with connect(there, "again") as connection:
        assert connection.execute(roles.encode()).fetchall() == before
        assert connection.execute("SELECT lo_get(4711)").fetchone() == (b"large",)


def test_a_whole_database_that_fails_leaves_nothing(new_server: Any, logical: Site) -> None:
    source, there = new_server("postgres_a"), new_server("postgres_b")
    run(source, "CREATE ROLE owner")
    run(source, "CREATE FUNCTION here() RETURNS bool LANGUAGE sql AS $$SELECT current_database() = 'postgres'$$")
    run(source, "CREATE TABLE t (i int CHECK (here())); ALTER TABLE t OWNER TO owner; INSERT INTO t VALUES (1)")
    backup = service.backup_now(source, logical, verify=False)
    before = everything(there)
    with pytest.raises(AtalaiaError, match="violates check constraint") as error:
        put(logical, backup, wanted(), Into(there, "elsewhere"), lambda _: None)
    assert "had been made was removed" in error.value.remedy
    assert everything(there) == before
    assert list(logical.temporary.iterdir()) == []


@pytest.mark.parametrize("database", ["postgres", "new one"])
def test_what_fails_leaves_nothing(new_server: Any, site: Site, database: str) -> None:
    source, there = new_server("postgres_a"), new_server("postgres_b")
    run(source, "CREATE ROLE missing; CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b')")
    run(source, "CREATE TABLE s.t (m s.mood); ALTER TABLE s.t OWNER TO missing; INSERT INTO s.t VALUES ('b')")
    backup = service.backup_now(source, site, verify=False)
    # The type is there with other values: the rows do not fit.
    run(there, "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('x')")
    if database != "postgres":
        run(there, 'CREATE DATABASE "new one" TEMPLATE postgres')
    before = everything(there)
    with pytest.raises(AtalaiaError, match="invalid input value for enum"):
        put(site, backup, wanted("s.t"), Into(there, database), lambda _: None)
    assert everything(there) == before


def test_what_is_not_in_the_backup_is_told(new_server: Any, site: Site) -> None:
    source, there = new_server("postgres_a"), new_server("postgres_b")
    run(source, "CREATE TABLE orders (i int)")
    backup = service.backup_now(source, site, verify=False)

    def refused(what: Wanted, said: str, database: str = "") -> None:
        with pytest.raises(InputError, match=said):
            put(site, backup, what, Into(there, database), lambda _: None)

    before = everything(there)
    refused(wanted("orders"), "no table 'orders'")
    refused(wanted("public.order"), "no table 'public.order'")
    refused(wanted(schemas=("nowhere",)), "no schema 'nowhere'", "fresh")
    refused(wanted("public.orders", databases=("absent",)), "no database 'absent'")
    refused(wanted("public.orders", databases=()), "none was named")
    refused(Wanted(), "a whole server does not go into another")
    assert everything(there) == before


def test_a_database_that_a_killed_restore_left_is_removed_by_the_next(new_server: Any, site: Site) -> None:
    server = new_server()
    for statement in ("CREATE TABLE orders AS SELECT 1 AS i", "CREATE DATABASE half", "CREATE DATABASE other"):
        run(server, statement)
    backup = service.backup_now(server, site, verify=False)
    run(server, "COMMENT ON DATABASE half IS 'atalaia: being restored by process 4194304 1'")
    run(server, "CREATE ROLE lent; COMMENT ON ROLE lent IS 'atalaia: being restored by process 4194304 1'")
    run(server, "CREATE TABLE its (i int); ALTER TABLE its OWNER TO lent", "half")
    own = Process.of(os.getpid())
    assert own
    run(server, f"COMMENT ON DATABASE other IS 'atalaia: being restored by process {own.pid} {own.started}'")
    told: list[str] = []
    put(site, backup, wanted("public.orders"), Into(server, "half"), told.append)
    assert [line for line in told if "killed" in line] == [
        "removed the database half of postgres_a, left by a restore that was killed"
    ]
    with connect(server, "half") as connection:
        assert not connection.execute("SELECT FROM pg_roles WHERE rolname = 'lent'").fetchall()
        assert connection.execute("SELECT i FROM orders").fetchone() == (1,)
        assert connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'half'"
        ).fetchone() == (None,)


def test_a_role_that_another_made_meanwhile_is_not_dropped(new_server: Any) -> None:
    server = new_server()
    run(server, "CREATE ROLE theirs")
    with pytest.raises(psycopg.errors.DuplicateObject), marks.lent(server, "none", ["lent", "theirs"]):
        pass
    with connect(server) as connection:
        found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname IN ('lent', 'theirs')").fetchall()
    assert found == [("theirs",)]
