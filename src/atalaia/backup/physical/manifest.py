"""PostgreSQL's backup_manifest: which files a backup has, of which sizes, and whether it is itself unchanged."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import orjson

_SELF = re.compile(rb'"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$')
# What a restore or a server adds, as pg_verifybackup leaves it out.
_IGNORED = re.compile(r"backup_manifest$|pg_wal(/|$)|postgresql\.auto\.conf$|recovery\.signal$|standby\.signal$")


def problem(folder: Path) -> str:
    """How a directory differs from its manifest in names and sizes; empty when it does not."""
    data = (folder / "backup_manifest").read_bytes()
    own = _SELF.search(data)
    if not own or hashlib.sha256(data[: own.start()]).hexdigest().encode() != own[1]:
        return "backup_manifest is damaged: its own checksum is wrong"
    expected = {_path(file): int(file["Size"]) for file in orjson.loads(data)["Files"]}
    found = _found(folder)
    wrong = [f"{name} is missing" for name in expected if name not in found and not _IGNORED.match(name)]
    wrong += [f"{name} is not in backup_manifest" for name in found if name not in expected]
    wrong += [
        f"{name} has {found[name]} bytes in place of {size}"
        for name, size in expected.items()
        if name in found and found[name] != size
    ]
    return "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")


def _path(file: dict[str, str]) -> str:
    return file["Path"] if "Path" in file else os.fsdecode(bytes.fromhex(file["Encoded-Path"]))


def _found(folder: Path) -> dict[str, int]:
    """Files below a directory and its tablespaces, with their sizes."""
    places = [(folder, "")]
    places += [(link.resolve(), f"pg_tblspc/{link.name}/") for link in (folder / "pg_tblspc").iterdir()]
    found = {}
    for place, prefix in places:
        for root, _, names in os.walk(place):
            for name in names:
                path = Path(root, name)
                relative = prefix + str(path.relative_to(place))
                if not _IGNORED.match(relative):
                    found[relative] = path.lstat().st_size
    return found
