from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.place import Damaged
from atalaia.backup.wal import sealed
from atalaia.backup.wal.sealed import ArchiveKey
from atalaia.environment.errors import AtalaiaError

AT = datetime(2026, 11, 23, tzinfo=UTC)
KEY = ArchiveKey("k", bytes(32))
NAME = "000000010000000000000001"
Compression = Literal["zstd", "lz4", "none"]
CONTENT = st.one_of(st.binary(max_size=4000), st.binary(max_size=40).map(lambda part: part * 200_000))


@settings(deadline=None, max_examples=50)
@given(CONTENT, st.sampled_from(["zstd", "lz4", "none"]), st.booleans())
def test_what_was_sealed_opens(raw: bytes, compression: Compression, encrypted: bool) -> None:
    key = KEY if encrypted else None
    data = sealed.seal(NAME, "7", raw, key, compression, 1, AT)
    head, found = sealed.unseal(data, NAME, "7", {"k": KEY}, "here")
    assert (found, head.size, head.at) == (raw, len(raw), AT)
    assert sealed.head(data[: sealed.HEAD], "here")[0] == head


@settings(deadline=None, max_examples=300)
@given(st.data(), st.booleans())
def test_no_byte_can_be_changed_unseen(data: st.DataObject, encrypted: bool) -> None:
    raw = bytes(range(256)) * 40
    whole = bytearray(sealed.seal(NAME, "7", raw, KEY if encrypted else None, "zstd", 1, AT))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        _, found = sealed.unseal(bytes(whole), NAME, "7", {"k": KEY}, "here")
    except AtalaiaError:
        return
    # Only what does not count may have changed: the time, or how the header is written.
    assert found == raw


@given(st.integers(0, 2000))
def test_a_part_of_an_object_is_none(length: int) -> None:
    data = sealed.seal(NAME, "7", bytes(range(256)) * 8, None, "none", 1, AT)
    with pytest.raises(Damaged):
        sealed.unseal(data[:length], NAME, "7", {}, "here")


def test_an_object_is_bound_to_its_name_its_system_and_its_key() -> None:
    data = sealed.seal(NAME, "7", b"x", KEY, "zstd", 1, AT)
    for name, system in ((NAME[:-1] + "2", "7"), (NAME, "8")):
        with pytest.raises(Damaged):
            sealed.unseal(data, name, system, {"k": KEY}, "here")
    with pytest.raises(WrongKey):
        sealed.unseal(data, NAME, "7", {}, "here")
    with pytest.raises(Damaged):
        sealed.unseal(data, NAME, "7", {"k": ArchiveKey("k", bytes([1]) * 32)}, "here")


def test_the_same_contents_are_sealed_anew_with_another_key_each_time() -> None:
    first, second = (sealed.seal(NAME, "7", b"same" * 100, KEY, "none", 1, AT) for _ in range(2))
    one, other = (sealed.head(data, "here") for data in (first, second))
    assert one[0].salt != other[0].salt
    assert first[one[1] :] != second[other[1] :]
    assert one[0].digest == other[0].digest


@pytest.mark.skipif(not shutil.which("zstd"), reason="there is no zstd here")
def test_in_clear_it_is_what_zstd_reads() -> None:
    raw = bytes(range(256)) * 40_000
    data = sealed.seal(NAME, "7", raw, None, "zstd", 1, AT)
    done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, raw), done.stderr
