"""What a format is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from atalaia.collector.entries import Entries

# Makes entries of a valid UTF-8 block of whole lines read at a time (ns), with the labels of its file. What may have
# more lines at the block's end is held back (`Entries.hold`); it must be among the entries all the same.
Format: TypeAlias = "Callable[[bytes, int, Mapping[str, str]], Entries]"
