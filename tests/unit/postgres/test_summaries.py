from __future__ import annotations

from atalaia.environment.backing import BackupsSettings, ScheduleSettings
from atalaia.environment.settings import ServerSettings
from atalaia.postgres.cluster import _settings


def test_wal_is_summarised_where_incremental_backups_are_scheduled() -> None:
    scheduled = BackupsSettings(schedule=ScheduleSettings(incremental="0 1 * * *"))
    assert _settings(ServerSettings(version=18, settings={"work_mem": "8MB"}), scheduled) == {
        "summarize_wal": True,
        "work_mem": "8MB",
    }
    assert _settings(ServerSettings(version=18, settings={"summarize_wal": False}), scheduled)["summarize_wal"] is False
    assert _settings(ServerSettings(version=16), scheduled) == {}
    assert _settings(ServerSettings(version=18), BackupsSettings()) == {}
