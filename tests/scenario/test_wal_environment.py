"""What a user does after a DROP TABLE: the environment streams, the statement is found, the table is there again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from atalaia.backup.wal import segment
from tests.scenario.support import Home, wait_for


def test_a_dropped_table_is_had_back_from_just_before_the_statement(environment: Home) -> None:
    toml = environment.folder / "atalaia.toml"
    toml.write_text(
        "[servers.main]\nversion = 16\n[servers.main.settings]\nlog_statement = 'ddl'\n"
        "[backups.wal]\nstream = true\n[backups.promise]\nwal = '1h'\n" + toml.read_text()
    )
    environment.run("up")
    with environment.connect("main") as connection:
        connection.execute("CREATE TABLE invoices AS SELECT 1 AS n")
    environment.run("backup", "now", "main", "--kind", "physical")
    with environment.connect("main") as connection:
        connection.execute("INSERT INTO invoices SELECT generate_series(2, 100)")
        connection.execute("DROP TABLE invoices")
        connection.execute("CREATE TABLE later AS SELECT 1 AS n")
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row

    def archived() -> bool:
        (seen,) = _wal(environment)
        text = (seen["status"] or {}).get("archived_lsn")
        return bool(text) and segment.lsn(text) >= segment.lsn(row[0])

    wait_for(archived, "the WAL is archived")
    wait_for(
        lambda: bool(environment.stored('{job="postgres", server="main"} |= "DROP TABLE invoices"')), "it is in the log"
    )
    done = environment.run(
        "backup", "restore", "--server", "main", "--before", "DROP TABLE invoices", "--start", "--json", seconds=300
    )
    assert "DROP TABLE invoices" in done.stderr
    restored: dict[str, Any] = json.loads(done.stdout)
    try:
        with psycopg.connect(restored["dsn"], password=Path(restored["password_file"]).read_text().strip()) as copy:
            found = copy.execute("SELECT count(*), to_regclass('later') FROM invoices").fetchone()
            assert found == (100, None)
    finally:
        stop = restored["commands"][-1]
        subprocess.run(stop, shell=True, check=True, capture_output=True)
    (seen,) = _wal(environment)
    assert seen["status"]["alive"]
    assert seen["status"]["state"] == "streaming"
    assert not seen["missing"]
    environment.run("down")
    (seen,) = _wal(environment)
    assert seen["status"]["state"] == "stopped"


def _wal(environment: Home) -> list[dict[str, Any]]:
    return list(json.loads(environment.run("backup", "wal", "--json", code=None).stdout))
