"""A catalogue that cannot be used says why, and what to do: it is not always damage."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from atalaia.backup import catalogue
from atalaia.environment.errors import AtalaiaError


def test_held_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backups.sqlite"
    monkeypatch.setattr(catalogue, "_PATIENCE", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (a)")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AtalaiaError, match="locked") as caught:
            catalogue.list_backups(path)
    assert "another process" in caught.value.remedy
    assert "rebuild" not in caught.value.remedy


def test_no_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "backups.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(AtalaiaError, match="not a database") as caught:
        catalogue.list_backups(path)
    assert "rebuild" in caught.value.remedy
