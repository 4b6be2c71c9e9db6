"""Where objects are kept: a folder, or an object store. An object is whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from atalaia.environment.errors import AtalaiaError


class PlaceError(AtalaiaError):
    """The place did not do what it was asked: full, away, forbidden. Says nothing of what it holds."""


class Missing(PlaceError):
    """The object is not there, although the place answers."""


class Damaged(AtalaiaError):
    """What was read is not what was written: changed, cut off, of another backup."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object: its name below the place's root, bytes, and when it was last written (UTC)."""

    name: str
    size: int
    modified: datetime


class Sink(Protocol):
    """An object being written. It has its name once `finish` returns, and never in part."""

    def write(self, data: bytes) -> None:
        """Append. Raises PlaceError."""

    def finish(self) -> None:
        """Make it durable, under its name. Raises PlaceError."""

    def abort(self) -> None:
        """Forget it; nothing is left behind. Never raises."""


class Place(Protocol):
    """A store of objects with names such as `postgres_a/ID/manifest.json`. Methods may be called by many threads."""

    @property
    def address(self) -> str:
        """How people name it: a path, or an address without secrets."""

    def create(self, name: str) -> Sink:
        """Begin an object, which replaces one of the same name when it is finished. Raises PlaceError."""

    def put(self, name: str, data: bytes) -> None:
        """Write a small object at once, durably. Raises PlaceError."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object from `offset`: exactly `length`, or all.

        Raises Missing, Damaged when it ends too early, PlaceError.
        """

    def size(self, name: str) -> int | None:
        """Bytes of an object; None when there is none. Raises PlaceError."""

    def objects(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose names begin with `prefix`, which ends at a `/` or is empty. Raises PlaceError."""

    def folders(self, prefix: str = "") -> list[str]:
        """Names of what lies directly below `prefix` and holds objects, sorted. Raises PlaceError."""

    def delete(self, name: str) -> None:
        """Remove an object, durably; nothing happens when there is none. Raises PlaceError."""
