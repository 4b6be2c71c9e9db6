"""Copies a backup from place to place: each object's SHA-256 is checked on the way, the manifest comes last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from atalaia.backup.vault import manifest as manifests
from atalaia.backup.vault.manifest import NAME, Manifest, Pack
from atalaia.backup.vault.place import Damaged, Missing, Place, PlaceError
from atalaia.backup.vault.reader import Reader, damaged, look, rank
from atalaia.environment.errors import AtalaiaError

_BLOCK = 4 << 20
Count = Callable[[int], None]


def give(reader: Reader, target: Place, count: Count = lambda _: None, *, thorough: bool = False) -> int:
    """Let `target` have a backup too; bytes that were copied, 0 when it had all of it.

    An object of the right size is taken as whole, for objects are whole or not there; `thorough` reads it again.
    `count` is told of bytes as they are done. Raises Damaged and Missing when no other place has an object whole,
    PlaceError when the target or all sources fail.
    """
    sources = [place for place in reader.places if place.address != target.address]
    there = {found.name: found.size for found in target.objects(f"{reader.folder}/")}
    copied = 0
    for pack in (*reader.manifest.packs, reader.manifest.index):
        name = f"{reader.folder}/{pack.name}"
        if there.get(name) == pack.size and not (thorough and damaged(target, reader.folder, pack)):
            count(pack.size)
            continue
        _object(sources, target, name, pack, count)
        copied += pack.size
    if not (f"{reader.folder}/{NAME}" in there and _same(target, reader.folder, reader.manifest)):
        data = manifests.encode(reader.manifest, reader.codec.key)
        target.put(f"{reader.folder}/{NAME}", data)
        copied += len(data)
    return copied


def mirror(source: Place, target: Place, prefix: str, passing: str, check: Callable[[str, bytes], None]) -> int:
    """Let `target` have the objects below a prefix that it lacks, or has older or of another size, in order of names.

    What `check` (of a name and bytes) refuses with Damaged is not copied: a good copy outlives a source that broke.
    Objects whose names end in `passing` go from the target when the source has them no more. Bytes that were copied.
    Raises PlaceError, and Damaged, after all else was copied, for the first that was refused.
    """
    there = {found.name: found for found in target.objects(prefix)}
    copied, refused = 0, None
    here = sorted(source.objects(prefix), key=lambda found: found.name)
    for found in here:
        old = there.get(found.name)
        if old is None or old.size != found.size or old.modified < found.modified:
            try:
                data = source.read(found.name)
                check(found.name, data)
                target.put(found.name, data)
            except Missing:
                continue  # it went while we were at it, as what is passing does
            except Damaged as error:
                refused = refused or error
                continue
            copied += found.size
    for name in there.keys() - {found.name for found in here}:
        if name.endswith(passing):
            target.delete(name)
    if refused:
        raise refused
    return copied


def _same(target: Place, folder: str, manifest: Manifest) -> bool:
    try:
        return look(target, folder) == manifest
    except (Damaged, Missing):
        return False


def _object(sources: Sequence[Place], target: Place, name: str, pack: Pack, count: Count) -> None:
    errors: list[AtalaiaError] = []
    for source in sources:
        sink = target.create(name)
        try:
            _pour(source, name, pack, sink.write, count)
        except (_SourceFailed, Damaged) as problem:
            sink.abort()
            errors.append(problem.error if isinstance(problem, _SourceFailed) else problem)
            continue
        except BaseException:
            sink.abort()
            raise
        sink.finish()
        return
    raise min(errors, key=rank, default=Missing(f"{name} is nowhere but in {target.address}", "make another backup"))


class _SourceFailed(Exception):
    def __init__(self, error: PlaceError) -> None:
        super().__init__(str(error))
        self.error = error


def _pour(source: Place, name: str, pack: Pack, write: Callable[[bytes], None], count: Count) -> None:
    digest = hashlib.sha256()
    for offset in range(0, pack.size, _BLOCK):
        try:
            block = source.read(name, offset, min(_BLOCK, pack.size - offset))
        except PlaceError as error:
            raise _SourceFailed(error) from error
        digest.update(block)
        write(block)
        count(len(block))
    if digest.hexdigest() != pack.sha256:
        raise Damaged(
            f"{source.address}/{name} has changed since it was written: SHA-256 is {digest.hexdigest()}, "
            f"not {pack.sha256}",
            "restore another backup, or from another repository",
        )
