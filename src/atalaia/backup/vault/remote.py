"""An object store as a place: S3, Google Cloud Storage, Azure, through obstore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from atalaia.backup.vault.place import Damaged, Missing, Object, PlaceError
from atalaia.environment.errors import InputError

_PART = 8 << 20  # bytes of one part of an upload; S3 takes at most 10,000 of them
_PARTS = 2  # uploads of parts at a time
T = TypeVar("T")


class _Upload:
    """A multipart upload; the object appears when it is completed."""

    def __init__(self, place: RemotePlace, name: str) -> None:
        self._place = place
        self._name = name
        self._file = place.ask(
            f"create {name}",
            lambda: obstore.open_writer(place.store, name, buffer_size=_PART, max_concurrency=_PARTS),
        )

    def write(self, data: bytes) -> None:
        self._place.ask(f"write {self._name}", lambda: self._file.write(data))

    def finish(self) -> None:
        self._place.ask(f"finish {self._name}", self._file.close)

    def abort(self) -> None:
        # Never closed, it never gets its name. What was uploaded of it, the store's own rule for unfinished
        # uploads removes (docs/backup.md).
        del self._file


class RemotePlace:
    """Objects below `url`'s prefix. `options` are obstore's settings of that store (endpoint, region, keys)."""

    def __init__(self, url: str, options: Mapping[str, str | int | bool] | None = None) -> None:
        given = {
            key: str(value).lower() if isinstance(value, bool) else value for key, value in (options or {}).items()
        }
        client = {"allow_http": True} if str(given.get("endpoint", "")).startswith("http://") else {}
        parts = urlsplit(url)
        self.address = f"{parts.scheme}://{parts.hostname or ''}{parts.path}".rstrip("/")
        try:
            self.store: ObjectStore = from_url(url, client_options=client or None, **given)  # type: ignore[call-overload]  # its overloads name each store's settings
        except (BaseError, ValueError, TypeError) as error:
            raise InputError(
                f"the repository {self.address} cannot be used: {_first(error)}",
                "correct [backups] repository, options",
            ) from error

    def ask(self, what: str, call: Callable[[], T]) -> T:
        """Do it. Raises PlaceError that says what."""
        try:
            return call()
        except FileNotFoundError as error:
            raise Missing(f"{self.address} has no such object: {what}", "use another backup or repository") from error
        except (BaseError, OSError) as error:
            raise PlaceError(
                f"{self.address} could not {what}: {_first(error)}",
                "see that the store answers, that its keys are valid and that it has room; then try again",
            ) from error

    def create(self, name: str) -> _Upload:
        """Begin an object."""
        return _Upload(self, name)

    def put(self, name: str, data: bytes) -> None:
        """Write an object at once."""
        self.ask(f"write {name}", lambda: obstore.put(self.store, name, data, use_multipart=False))

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object."""
        if length is None:
            data = bytes(self.ask(f"read {name}", lambda: obstore.get(self.store, name).bytes()))
            return data[offset:] if offset else data
        if length == 0:
            return b""
        found = bytes(
            self.ask(f"read {name}", lambda: obstore.get_range(self.store, name, start=offset, length=length))
        )
        if len(found) != length:
            raise Damaged(
                f"{self.address}/{name} ends {length - len(found)} bytes too early", "use another backup or repository"
            )
        return found

    def size(self, name: str) -> int | None:
        """Bytes of an object."""
        try:
            return self.ask(f"look at {name}", lambda: obstore.head(self.store, name))["size"]
        except Missing:
            return None

    def objects(self, prefix: str = "") -> Iterator[Object]:
        """Objects below a prefix."""
        pages = iter(obstore.list(self.store, prefix=prefix or None))
        while page := self.ask(f"list {prefix}", lambda: next(pages, None)):
            for found in page:
                yield Object(found["path"], found["size"], found["last_modified"])

    def folders(self, prefix: str = "") -> list[str]:
        """Common prefixes directly below one."""
        found = self.ask(f"list {prefix}", lambda: obstore.list_with_delimiter(self.store, prefix=prefix or None))
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found["common_prefixes"])

    def delete(self, name: str) -> None:
        """Remove an object."""
        try:
            self.ask(f"remove {name}", lambda: obstore.delete(self.store, name))
        except Missing:
            return


def _first(error: BaseException) -> str:
    """The words of obstore's error that a person needs: its first line."""
    return str(error).strip().split("\n", 1)[0][:300]
