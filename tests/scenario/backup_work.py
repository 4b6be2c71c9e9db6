"""What clients do to a server between backups: rows, tables, sequences, large objects, roles, comments, settings."""

from __future__ import annotations

import random
from typing import Any

import psycopg
from psycopg import sql

from tests.scenario.backup_oracle import Server

DATABASES = ("postgres", "shop", "café ☕")
_BEGIN = (
    "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, note text)",
    "INSERT INTO account SELECT i, i * 7919 %% 100003, md5(i::text) FROM generate_series(1, %s) i",
    "CREATE SEQUENCE ticket INCREMENT 3",
    "CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp(), doc jsonb,"
    " raw bytea, amount numeric, f float8, words text[])",
    "CREATE INDEX ON event USING gin (words)",
    "CREATE UNLOGGED TABLE session (id int)",
    "CREATE VIEW rich AS SELECT id FROM account WHERE balance > 1000",
    "CREATE FUNCTION twice(a bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT a * 2'",
    "CREATE TABLE part (k int, v text) PARTITION BY HASH (k)",
    "CREATE TABLE part_0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
)


def begin(server: Server, rows: int = 40_000) -> None:
    """Make databases, roles and tables; `rows` in the largest."""
    with server.connect() as connection:
        connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'it''s'")
        connection.execute("CREATE ROLE staff")
        connection.execute("GRANT staff TO clerk")
        for name in DATABASES[1:]:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER clerk").format(sql.Identifier(name)))
    for name in DATABASES:
        with server.connect(name) as connection, connection.transaction():
            for statement in _BEGIN:
                connection.execute(statement.encode(), (rows if name == "shop" else 50,) if "%s" in statement else None)


def change(server: Server, rng: random.Random) -> None:
    """Some work of clients in each database; the same for the same seed, but for times."""
    number = rng.randrange(10**9)
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE r{number} PASSWORD 'p{number}'".encode())
        connection.execute(f"ALTER ROLE clerk SET work_mem = '{rng.randrange(1, 99)}MB'".encode())
        connection.execute(f"COMMENT ON ROLE staff IS 'it''s {number}'".encode())
        connection.execute(f"ALTER DATABASE shop SET statement_timeout = {number}".encode())
    for name in DATABASES:
        with server.connect(name) as connection, connection.transaction():
            _change(connection, rng, number)


def _change(connection: psycopg.Connection[Any], rng: random.Random, number: int) -> None:
    connection.execute("SELECT nextval('ticket') FROM generate_series(1, %s)", (rng.randrange(1, 40),))
    connection.execute("UPDATE account SET balance = balance + %s WHERE id %% 13 = %s", (number, rng.randrange(13)))
    connection.execute("DELETE FROM event WHERE id %% 5 = %s", (rng.randrange(5),))
    connection.execute(
        "INSERT INTO event (doc, raw, amount, f, words) SELECT jsonb_build_object('i', i, 'q', E'\\t\"\\\\'), "
        "decode(md5(i::text), 'hex'), i / 7.0, sqrt(i), ARRAY['a b', NULL, '\\N', i::text] "
        "FROM generate_series(1, %s) i",
        (rng.randrange(1, 300),),
    )
    connection.execute("INSERT INTO part SELECT i, %s FROM generate_series(1, 20) i", ("\r\n\\.\n" + str(number),))
    connection.execute("INSERT INTO session VALUES (%s)", (number % 1000,))
    connection.execute("SELECT lo_from_bytea(0, %s)", (rng.randbytes(rng.randrange(5000)),))
    connection.execute(f"CREATE TABLE made_{number} (a int PRIMARY KEY, b text DEFAULT 'x;''y')".encode())
    connection.execute(f"INSERT INTO made_{number} VALUES (1, E'\\u2028')".encode())
    connection.execute(f"GRANT SELECT ON made_{number} TO staff".encode())
    connection.execute(f"COMMENT ON TABLE made_{number} IS E'first\\nsecond {number}'".encode())
