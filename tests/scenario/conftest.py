"""Environments for scenario tests: each in a folder of its own that the servers' account can reach."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.support import Home, home


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that the unprivileged account of the servers may pass through.

    Not below pytest's own: another pytest of the same user would close that one again while we run.
    """
    with tempfile.TemporaryDirectory(prefix="atalaia-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def environment(reachable: Path) -> Iterator[Home]:
    """An environment that is not started yet, and that leaves no process behind."""
    with home(reachable / "env") as made:
        yield made
