from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.postgres.logfiles import Pruned, prune, trim_stderr


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for day in range(1, 6):
        (tmp_path / f"postgresql-2026-11-0{day}_000000.json").write_bytes(b"x" * 100)
        (tmp_path / f"postgresql-2026-11-0{day}_000000.log").write_bytes(b"x" * (10 if day == 2 else 0))
    (tmp_path / "other.json").write_bytes(b"x" * 10_000)
    return tmp_path


def names(paths: tuple[Path, ...]) -> list[str]:
    """Day and ending of each file."""
    return [f"{path.stem[19:21]}{path.suffix}" for path in paths]


def test_oldest_first_and_never_the_newest(log: Path) -> None:
    pruned = prune(log, 250, lambda path: True)
    assert names(pruned.removed) == ["01.json", "01.log", "02.json", "03.log", "04.log"]
    assert sorted(path.name for path in log.glob("*-05_*")) == [
        "postgresql-2026-11-05_000000.json",
        "postgresql-2026-11-05_000000.log",
    ]
    assert (log / "other.json").exists()


def test_undelivered_files_stay_until_four_times_the_limit(log: Path) -> None:
    assert prune(log, 110, lambda path: False).lost == ()
    assert names(prune(log, 90, lambda path: False).lost) == ["01.json"]
    assert len(list(log.glob("*.json"))) == 5


def test_delivered_ones_go_before_undelivered_newer_ones(log: Path) -> None:
    pruned = prune(log, 100, lambda path: "02" in path.name)
    assert "02.json" in names(pruned.removed)
    assert pruned.lost == ()


def test_zero_limit_keeps_only_what_is_written_to(log: Path) -> None:
    prune(log, 0, lambda path: True)
    assert len(list(log.glob("postgresql-*"))) == 2
    assert prune(log, 0, lambda path: True) == Pruned()


def test_stderr_is_emptied_only_when_large_and_delivered(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    assert not trim_stderr(path, 10, lambda path: True)
    path.write_bytes(b"x" * 30)
    assert not trim_stderr(path, 30, lambda path: True)
    assert not trim_stderr(path, 10, lambda path: False)
    assert trim_stderr(path, 10, lambda path: True)
    assert path.stat().st_size == 0
    path.write_bytes(b"x" * 50)
    assert trim_stderr(path, 10, lambda path: False)
