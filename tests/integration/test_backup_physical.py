"""Physical backups of real servers: what is restored is what was backed up, whole, incremental, or one database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from backup_sample import ODD_DATABASES, everything, fill

from atalaia.backup import service
from atalaia.backup.model import State
from atalaia.backup.site import Site
from atalaia.environment.backing import BackupsSettings
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect


@pytest.fixture
def site(site: Site) -> Site:
    return replace(site, settings=BackupsSettings(kind="physical"))


@pytest.mark.parametrize("major", [15, 16, 18])
def test_what_is_restored_is_what_was_backed_up_column_by_column(new_server: Any, site: Site, major: int) -> None:
    server: Cluster = new_server(major=major)
    fill(server)
    original = everything(server)
    told: list[str] = []

    backup = service.backup_now(server, site, told.append)

    print("\n".join(told))
    assert backup.state is State.VERIFIED
    assert set(backup.contents["databases"]) == {"postgres", "template0", "template1", *ODD_DATABASES}
    assert "table shop.items" in backup.contents["databases"]["Upper"]["objects"]
    assert list(site.temporary.iterdir()) == []

    restored = service.restore(site, backup.id, progress=told.append, keep_running=True)
    try:
        assert everything(restored.cluster) == original
        with connect(restored.cluster) as connection:
            assert connection.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone() == (2,)
    finally:
        assert restored.process
        control.stop(restored.process)
