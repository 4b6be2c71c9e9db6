"""The kinds of backup that there are."""

from __future__ import annotations

from dataclasses import replace

from atalaia.backup.kind import Kind, Kinds
from atalaia.backup.logical.kind import Logical
from atalaia.backup.physical.kind import Physical
from atalaia.backup.plain.kind import Plain
from atalaia.environment.errors import InputError

KINDS: Kinds = {kind.name: kind for kind in (Plain(), Logical(), Physical())}


def maker_of(name: str, *, incremental: bool) -> Kind:
    """The kind that makes a backup. Raises InputError when it makes no incremental ones."""
    kind = KINDS[name]
    if not incremental:
        return kind
    if not isinstance(kind, Physical):
        raise InputError(f"a {name} backup cannot be incremental", "only physical ones can: `--kind physical`")
    return replace(kind, incremental=True)
