from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from backup_sample import ODD_DATABASES, everything, fill

from atalaia.backup import service
from atalaia.backup.model import State
from atalaia.backup.site import Site
from atalaia.environment.backing import BackupsSettings
from atalaia.postgres import control
from atalaia.postgres.connect import connect


@pytest.fixture
def logical(site: Site) -> Site:
    return replace(site, settings=BackupsSettings(kind="logical"))


@pytest.mark.parametrize("major", [16, 18])
def test_what_is_restored_is_what_was_backed_up_column_by_column(new_server: Any, logical: Site, major: int) -> None:
    server = new_server(major=major)
    fill(server)
    with connect(server, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres SET work_mem = '5MB'")
        connection.execute("ALTER ROLE alice IN DATABASE \"Upper\" SET work_mem = '6MB'")
    original = everything(server)
    told: list[str] = []

    backup = service.backup_now(server, logical, told.append)

    assert backup.state is State.VERIFIED
    assert backup.kind == "logical"
    upper = backup.contents["databases"]["Upper"]
    assert upper["tables"]["shop.items"][0] == 2007
    assert upper["tables"]['shop.Odd; "name"'][0] == 50
    assert upper["tables"]["shop.nothing"] == [3, 3]
    assert upper["large_objects"] == 3
    assert upper["large_object_bytes"] == 100 + 256 * 1024
    assert set(backup.contents["databases"]) == {"postgres", "template1", *ODD_DATABASES}
    assert set(backup.contents["roles"]) == {"alice", "Bob Smith", "staff", "aa_before_postgres", "postgres"}
    assert backup.messages == ""
    assert list(logical.temporary.iterdir()) == []

    restored = service.restore(logical, backup.id, progress=told.append, keep_running=True)
    try:
        assert everything(restored.cluster) == original
        with connect(restored.cluster) as connection:
            settings = "SELECT setdatabase::regclass, setrole FROM pg_db_role_setting"
            settings = (
                "SELECT datname, setrole::regrole::text, setconfig FROM pg_db_role_setting LEFT JOIN pg_database d"
            )
            settings += " ON d.oid = setdatabase ORDER BY 1, 2"
            found = connection.execute(settings.encode()).fetchall()
        assert ("postgres", "-", ["work_mem=5MB"]) in found
        assert ("Upper", "alice", ["work_mem=6MB"]) in found
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(replace(restored.cluster, password_file=server.password_file))
    finally:
        assert restored.process
        control.stop(restored.process)
