"""The kinds of backup that there are."""

from __future__ import annotations

from atalaia.backup.kind import Kinds
from atalaia.backup.logical.kind import Logical
from atalaia.backup.plain.kind import Plain

KINDS: Kinds = {kind.name: kind for kind in (Plain(), Logical())}
