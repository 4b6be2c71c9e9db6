"""The ready-made rules for PostgreSQL: each fires on what the server writes then, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from logs_support import entries
from rules_support import MINUTE, S, World, world

from atalaia.rules.files import TENANT
from atalaia.rules.reading import read_groups

TEXT = resources.files("atalaia.rules").joinpath("postgres.yaml").read_text(encoding="utf-8")
ORDINARY = (
    ("LOG", "connection received: host=10.0.0.1 port=5000"),
    ("LOG", "checkpoint complete: wrote 10 buffers (0.1%)"),
    ("ERROR", 'duplicate key value violates unique constraint "a_pkey"'),
    ("FATAL", 'database "x" does not exist'),
    ("LOG", "database system is shut down"),
)
# How often each message comes a minute, and for how many minutes.
SIGNS: dict[str, tuple[int, int, str, str]] = {
    "PostgresPanic": (1, 1, "PANIC", "could not locate a valid checkpoint record"),
    "PostgresCrashed": (1, 1, "LOG", "server process (PID 4711) was terminated by signal 9: Killed"),
    "PostgresDiskFull": (1, 1, "ERROR", 'could not extend file "base/5/16384": No space left on device'),
    "PostgresDataDamaged": (1, 1, "ERROR", "invalid page in block 0 of relation base/5/16384"),
    "PostgresWraparound": (1, 1, "WARNING", 'database "app" must be vacuumed within 39985967 transactions'),
    "PostgresTooManyConnections": (1, 1, "FATAL", "sorry, too many clients already"),
    "PostgresOutOfMemory": (1, 1, "ERROR", "out of memory\nDETAIL:  Failed on request of size 8388608"),
    "PostgresFatalRate": (10, 8, "FATAL", 'role "nobody" does not exist'),
    "PostgresDeadlocks": (3, 1, "ERROR", "deadlock detected\nDETAIL:  Process 1 waits for ShareLock"),
    "PostgresArchivingFails": (1, 3, "LOG", "archive command failed with exit code 1"),
    "PostgresReplicationSlot": (1, 1, "LOG", 'invalidating obsolete replication slot "standby"'),
    "PostgresPasswordFailures": (5, 1, "FATAL", 'password authentication failed for user "app"'),
    "PostgresStartupPacket": (1, 1, "LOG", "invalid length of startup packet"),
    "PostgresCheckpointsTooFrequent": (1, 3, "LOG", "checkpoints are occurring too frequently (9 seconds apart)"),
    "PostgresRestarted": (1, 1, "LOG", "database system is ready to accept connections"),
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def push(place: World, lines: list[tuple[str, str]]) -> None:
    metadata = [("remote_host", "10.0.0.1"), ("user", "app")]
    for severity in {severity for severity, _ in lines}:
        texts = [f"{severity}:  {text}" for found, text in lines if found == severity]
        labels = {"job": "postgres", "server": "postgres_a", "severity": severity}
        table = entries(texts, [place.now - S] * len(texts), labels, metadata)
        assert place.store.append(table, TENANT).result(20).refused is None


def test_every_rule_is_tried() -> None:
    rules = [rule for group in read_groups(TEXT, Path("postgres.yaml")) for rule in group.rules]
    assert sorted(SIGNS) == sorted(rule.name for rule in rules if not rule.records)
    assert all("summary" in rule.annotations for rule in rules if not rule.records)


@pytest.mark.parametrize("name", [*SIGNS, ""])
def test_a_rule_fires_for_its_sign_alone(place: World, name: str) -> None:
    ruler = place.ruler(text=TEXT)
    count, minutes, severity, text = SIGNS.get(name, (0, 8, "LOG", ""))
    for _ in range(minutes):
        place.now += MINUTE
        push(place, [*ORDINARY, *[(severity, text)] * count])
        ruler.run_due()
    place.now += MINUTE
    ruler.run_due()
    known = [one for view in ruler.groups([TENANT]) for one in view.known]
    assert [one.error for one in known] == [None] * len(known)
    alerts = [alert for one in known for alert in one.alerts.values() if alert.fired is not None]
    assert [dict(alert.labels)["alertname"] for alert in alerts] == ([name] if name else [])
    for alert in alerts:
        assert dict(alert.labels)["server"] == "postgres_a"
        assert "postgres_a" in alert.annotations["summary"]
        assert not any("<error" in annotation for annotation in alert.annotations.values())
    assert {dict(labels)["__name__"] for one in known for labels in one.samples} >= {
        "postgres:log_lines:rate5m", "postgres:log_bytes:rate5m",
    }  # fmt: skip
