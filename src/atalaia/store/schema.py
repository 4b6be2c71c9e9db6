"""The tables of the catalogue, and the version of everything on disk. docs/store-format.md describes both."""

from __future__ import annotations

FORMAT = 2
TABLES = """
CREATE TABLE store (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (tenant, labels)
) STRICT;
CREATE TABLE sources (id TEXT PRIMARY KEY, position INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, level INTEGER NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, line_bytes INTEGER NOT NULL, min_ts INTEGER NOT NULL, max_ts INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, crc32 INTEGER NOT NULL,
    index_bytes INTEGER NOT NULL, index_crc32 INTEGER NOT NULL, keys TEXT NOT NULL, purged INTEGER NOT NULL,
    held BLOB, created INTEGER NOT NULL
) STRICT;
CREATE TABLE deletions (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, query TEXT NOT NULL, start_ts INTEGER NOT NULL,
    end_ts INTEGER NOT NULL, seq INTEGER NOT NULL, streams BLOB NOT NULL, conditions TEXT NOT NULL,
    requested INTEGER NOT NULL, finished INTEGER, rows INTEGER NOT NULL
) STRICT;
"""
