"""Writes the repaired copy of a text dump: normalised, without stray lines, with safe statements in place of drops."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from atalaia.backup.inspecting.survey import Edit, Survey
from atalaia.backup.inspecting.text import Ending, TextReader
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory

_WORDS = {
    "drop": "statements that drop something taken out",
    "role": "CREATE ROLE made tolerant of roles that exist",
    "database": "CREATE DATABASE taken out for databases that every server has (postgres, template1)",
    "schema": "CREATE SCHEMA public made tolerant",
    "foreign text": "pieces of foreign text taken out",
}
_END = 1 << 62


def edited(blocks: Iterable[bytes], edits: Sequence[Edit]) -> Iterator[bytes]:
    """`blocks` with `edits` (sorted, not overlapping) done."""
    position, number, out = 0, 0, False
    for block in blocks:
        start, end = 0, len(block)
        parts = []
        while number < len(edits) and edits[number].start < position + end:
            edit = edits[number]
            if not out:
                parts.append(block[start : edit.start - position])
                parts.append(edit.new)
            out = edit.end > position + end
            start = min(edit.end - position, end)
            if out:
                break
            number += 1
        if not out:
            parts.append(block[start:])
        position += end
        if whole := b"".join(parts):
            yield whole
    for edit in edits[number + 1 if out else number :]:
        if edit.start >= position and edit.new:
            yield edit.new


def cuts(reader: TextReader) -> list[Edit]:
    """The stray lines to take out, in bytes of the normalised text."""
    return [Edit(one.start, one.end, b"", "stray") for one in reader.strays if one.certain]


def statement_edits(survey: Survey, ending: Ending) -> list[Edit]:
    """What to change in the text without stray lines. Raises InputError when there is nothing left to write."""
    edits = list(survey.edits)
    begin, end = 0, _END
    if len(survey.dumps) > 1 and all(dump.scope == "cluster" for dump in survey.dumps):
        begin = survey.dumps[-1].start
        edits = [edit for edit in edits if edit.start >= begin]
    if ending.closing:
        edits.append(Edit(_END, _END, ending.closing, "closing"))
    elif ending.trailing:
        end = ending.keep
        edits.append(Edit(end, _END, b"\n", "trailing"))
    elif not ending.whole:
        end = ending.keep
        said = ending.where.encode().replace(b"\n", b" ")
        edits = [edit for edit in edits if edit.end <= end]
        edits.append(
            Edit(end, _END, ending.mend + b"--\n-- NOT WHOLE: this dump was cut off " + said + b"\n--\n", "cut")
        )
    if begin:
        edits.insert(0, Edit(0, begin, b"", "several"))
    return edits


def write(out: Path, blocks: Iterator[bytes]) -> int:
    """Write a new file of mode 0600, whole or not at all; its size in bytes.

    Raises InputError when `out` exists, AtalaiaError when it cannot be written.
    """
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists already", "nothing was written; give a name that is free")
    size = 0
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for block in blocks:
                    size += len(block)
                    view = memoryview(block)
                    while view:
                        view = view[file.write(view) :]
                os.fsync(file.fileno())
            os.link(partial, out)  # unlike rename, it never replaces
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(out.parent.resolve())
    except FileExistsError as error:
        raise InputError(f"{out} exists already", "nothing was written; give a name that is free") from error
    except OSError as error:
        raise AtalaiaError(
            f"{out} could not be written: {error.strerror or error}", "nothing was left of it"
        ) from error
    return size


def summary(edits: Sequence[Edit]) -> list[str]:
    """What `edits` change, in words."""
    counted = Counter(edit.why for edit in edits)
    said = [f"{counted[why]} {words}" for why, words in _WORDS.items() if counted[why]]
    said += ["the closing line completed"] if counted["closing"] else []
    said += ["what stands behind the closing line taken out"] if counted["trailing"] else []
    said += ["only the last of the dumps kept"] if counted["several"] else []
    said += ["the end, which is not whole, taken out: this copy is NOT a whole dump"] if counted["cut"] else []
    return said
