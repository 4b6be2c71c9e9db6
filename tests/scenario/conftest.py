"""Environments for scenario tests: each in a folder of its own that the servers' account can reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.support import Home, home


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that the unprivileged account of the servers may pass through."""
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        for folder in tmp_path.parents:
            if not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture
def environment(reachable: Path) -> Iterator[Home]:
    """An environment that is not started yet, and that leaves no process behind."""
    with home(reachable / "env") as made:
        yield made
