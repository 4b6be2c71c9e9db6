CREATE TABLE backup (
    id             TEXT PRIMARY KEY,
    server         TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('plain', 'logical', 'physical')),
    parent         TEXT NOT NULL DEFAULT '',
    state          TEXT NOT NULL CHECK (state IN ('running', 'complete', 'verified', 'failed')),
    started        TEXT NOT NULL,
    finished       TEXT,
    server_version TEXT NOT NULL,
    client_version TEXT NOT NULL,
    size           INTEGER NOT NULL DEFAULT 0,
    raw_size       INTEGER NOT NULL DEFAULT 0,
    sha256         TEXT NOT NULL DEFAULT '',
    contents       TEXT NOT NULL DEFAULT '{}',
    settings       TEXT NOT NULL DEFAULT '{}',
    details        TEXT NOT NULL DEFAULT '{}',
    messages       TEXT NOT NULL DEFAULT '',
    error          TEXT NOT NULL DEFAULT '',
    keep           TEXT NOT NULL DEFAULT '',
    pid            INTEGER NOT NULL,
    pid_started    INTEGER NOT NULL
) STRICT;
CREATE INDEX backup_by_server ON backup (server, started);
CREATE TABLE copy (
    backup         TEXT NOT NULL REFERENCES backup (id) ON DELETE CASCADE,
    repository     TEXT NOT NULL,
    at             TEXT NOT NULL,
    problem        TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (backup, repository)
) STRICT;
CREATE TABLE verification (
    backup         TEXT NOT NULL REFERENCES backup (id) ON DELETE CASCADE,
    at             TEXT NOT NULL,
    passed         INTEGER NOT NULL CHECK (passed IN (0, 1)),
    seconds        REAL NOT NULL,
    server_version TEXT NOT NULL,
    detail         TEXT NOT NULL
) STRICT
