"""Positions: which files are known, under which id, and up to which byte they are acknowledged.

The file is JSON, `{"version": 1, "files": {id: {…}}}`, replaced atomically. An id is made before the first byte of a
file is sent, and names the file to the store, which counts its bytes: that is what makes delivery exact.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from atalaia.environment.errors import InputError
from atalaia.environment.state import write_atomically

_HEAD = 512  # bytes of a file's beginning that tell it from another with the same inode
_FORGET = 30 * 86_400  # seconds after which a vanished file is forgotten


@dataclass(frozen=True, slots=True)
class Known:
    """One file: `offset` bytes are acknowledged; `head_size` first bytes have the CRC-32 `head_crc`."""

    id: str
    job: str
    path: str
    device: int
    inode: int
    offset: int
    head_size: int
    head_crc: int
    seen: int

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode


def head(descriptor: int, size: int = _HEAD) -> tuple[int, int]:
    """How many first bytes an open file has, at most `size`, and their CRC-32."""
    data = os.pread(descriptor, size, 0)
    return len(data), zlib.crc32(data)


def begin(job: str, path: str, descriptor: int) -> Known:
    """A file that was not known before."""
    status = os.fstat(descriptor)
    return Known(secrets.token_hex(8), job, path, status.st_dev, status.st_ino, 0, *head(descriptor), int(time.time()))


def still_is(known: Known, descriptor: int) -> bool:
    """Whether the open file is the known one: same inode, same beginning, not shorter than what was read."""
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != known.identity or status.st_size < known.offset:
        return False
    return still_begins(known, descriptor)


def still_begins(known: Known, descriptor: int) -> bool:
    """Whether the open file begins as the known one did."""
    return head(descriptor, known.head_size) == (known.head_size, known.head_crc)


def moved(known: Known, offset: int, descriptor: int | None) -> Known:
    """The file with a new offset; its fingerprint grows with it up to `_HEAD` bytes."""
    size, crc = known.head_size, known.head_crc
    if descriptor is not None and size < _HEAD and still_begins(known, descriptor):
        size, crc = head(descriptor)
    return replace(known, offset=offset, head_size=size, head_crc=crc, seen=int(time.time()))


def read(path: Path) -> dict[str, Known]:
    """The known files by id; empty when there is no file. Raises InputError when it is damaged."""
    try:
        data = json.loads(path.read_text())
        if data["version"] != 1:
            raise InputError(f"{path} has version {data['version']}", "use the newer Atalaia that wrote it")
        files = {key: Known(id=key, **value) for key, value in data["files"].items()}
        for known in files.values():
            for name in ("device", "inode", "offset", "head_size", "head_crc", "seen"):
                if type(getattr(known, name)) is not int:
                    raise TypeError(f"{name} of {known.path} is not a number")
        return files
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(
            f"the positions file {path} cannot be read: {error}",
            "move it away to begin anew; the store keeps what it has",
        ) from error


def write(path: Path, files: dict[str, Known]) -> None:
    """Replace the positions file, durably; files that vanished long ago are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    oldest = int(time.time()) - _FORGET
    kept = {key: asdict(known) for key, known in files.items() if known.seen >= oldest}
    for value in kept.values():
        del value["id"]
    write_atomically(path, json.dumps({"version": 1, "files": kept}, indent=1) + "\n")


def delivered(files: dict[str, Known], path: Path) -> bool:
    """Whether every whole line of `path` is acknowledged, by what `files` tells."""
    try:
        status = path.stat()
    except OSError:
        return True
    return any(k.identity == (status.st_dev, status.st_ino) and k.offset >= status.st_size for k in files.values())
