"""A row and its manifest."""

from __future__ import annotations

import pytest
from tests.unit.backup.backup_rows import row

from atalaia.backup import rows
from atalaia.backup.model import State
from atalaia.backup.vault.reader import open_backup
from atalaia.backup.vault.remote import RemotePlace
from atalaia.backup.vault.writer import Writer


@pytest.mark.parametrize("size", [0, 10, (4 << 20) + 10])
def test_the_size_of_the_data_is_known_however_small_it_is(size: int) -> None:
    place = RemotePlace("memory:///")
    backup = row("postgres_a_2026-11-22T120000Z", state=State.COMPLETE)
    given = {"compression": "zstd", "level": 1, "keyring": None}
    with Writer(place, backup.folder, **given) as writer:  # type: ignore[arg-type]  # of several types
        writer.member("one").write(bytes(size))
        writer.member("two").write(b"x")
        sealed = rows.sealed(backup, writer)
    assert sealed.raw_size == size + 1
    assert rows.found(open_backup(place, backup.folder, None, sealed.sha256)) == sealed
