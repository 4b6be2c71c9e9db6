from __future__ import annotations

from atalaia.collector.reading import identity
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.trail import Trail


class Bytes:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.descriptor = -1

    def read(self, count: int, at: int) -> bytes:
        return self.data[at : at + count]

    def size(self) -> int:
        return len(self.data)

    def whole(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""


def test_what_another_file_holds_is_not_remembered() -> None:
    """The copy that a rotation made is still the one that was read, after the file itself was seen to be new."""
    before, after = Bytes(b"one\ntwo\nthree\n"), Bytes(b"four\nfive\nsix\nseven\n")
    size, crc = identity.crc(before.data)
    known = Known("id", "j", "/a.log", 1, 2, 8, size, crc, 0)
    trail = Trail()
    assert not trail.same(after, known, 8)
    assert trail.same(before, known, 8)
    assert not trail.same(after, known, 8)
    assert trail.same(before, known, 8)
