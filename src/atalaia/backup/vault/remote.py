"""An object store as a place: S3, Google Cloud Storage, Azure, through obstore."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from atalaia.backup.vault.place import Damaged, Missing, Object, PlaceError
from atalaia.backup.vault.upload import Upload
from atalaia.environment.errors import InputError

PATIENCE = 180.0
_PART = 8 << 20  # bytes of one part of an upload; S3 takes at most 10,000 of them
_PARTS = 2  # uploads of parts at a time
_BRIEF = 10.0  # seconds for a store that has just failed to answer in all its patience
_ELSEWHERE = "use another backup, or another repository"
_BOUNDS = re.compile(r", max_retries: \d+, retry_timeout: \S+ *")
T = TypeVar("T")


class _Object:
    """An object being written: in one request as long as it is small, else in parts."""

    def __init__(self, place: RemotePlace, name: str) -> None:
        self._place, self._name = place, name
        self._small: list[bytes] = []
        self._size = 0
        self._upload: Upload | None = None
        self._new = True

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._upload is None:
            self._small.append(bytes(data))
            if self._size <= _PART:
                return
            self._new = self._place.size(self._name) is None
            self._upload = Upload(self._send)
            data, self._small = b"".join(self._small), []
        self._place.told(f"write {self._name}", lambda: self._writing().write(data))

    def finish(self) -> None:
        if self._upload is None:
            self._place.put(self._name, b"".join(self._small))
        else:
            try:
                self._place.told(f"write {self._name}", self._upload.finish)
            except PlaceError:
                # The store may have finished it, and only its answer got lost.
                if not (self._new and self._there()):
                    raise

    def abort(self) -> None:
        self._small = []
        if self._upload:
            self._upload.abort()
            self._upload = None

    def _there(self) -> bool:
        try:
            return self._place.size(self._name) == self._size
        except PlaceError:
            return False

    def _writing(self) -> Upload:
        assert self._upload
        return self._upload

    def _send(self, blocks: Iterator[bytes]) -> None:
        # When the iterator fails, obstore aborts the upload: no part of it is left in the store.
        obstore.put(self._place.store, self._name, blocks, use_multipart=True, chunk_size=_PART, max_concurrency=_PARTS)


class RemotePlace:
    """Objects below `url`'s prefix. `options` are obstore's settings of that store (endpoint, region, keys).

    A request that fails for a reason that may pass (5xx, cut, no answer) is tried again for `patience` seconds. A store
    that stayed away so long gets 10 seconds a request until it answers again, so that giving up does not take hours.
    """

    def __init__(
        self, url: str, options: Mapping[str, str | int | bool] | None = None, patience: float = PATIENCE
    ) -> None:
        given = {
            key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in (options or {}).items()
        }
        parts = urlsplit(url)
        self.address = f"{parts.scheme}://{parts.hostname or ''}{parts.path}".rstrip("/")
        try:
            self.store = _connect(url, given, patience)
            self._brief = _connect(url, given, min(_BRIEF, patience)) if parts.scheme != "memory" else self.store
        except (BaseError, ValueError, TypeError) as error:
            raise InputError(
                f"the repository {self.address} cannot be used: {_first(error)}",
                "correct `repository`, `copies` or their options in [backups]; docs/backup-repositories.md names them",
            ) from error
        self._away = False
        self._patience = patience

    def ask(self, what: str, call: Callable[[ObjectStore], T]) -> T:
        """Do it. Raises Missing, and PlaceError that says what."""
        store = self._brief if self._away else self.store
        return self.told(what, lambda: _interruptible(lambda: self.again(lambda: call(store))))

    def again(self, call: Callable[[], T], may: Callable[[], bool] = lambda: True) -> T:
        """Do it, and again after an answer that was cut in its body, which obstore does not ask for again."""
        deadline = time.monotonic() + self._patience
        pause = 0.2
        while True:
            try:
                return call()
            except BaseError as error:
                if "body error" not in str(error) or not may() or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 15.0)

    def told(self, what: str, call: Callable[[], T]) -> T:
        """What `call` returns, its errors as ours."""
        try:
            found = call()
        except KeyboardInterrupt:
            # Whoever does not want to wait for it does not want to wait for the clearing up either.
            self._away = True
            raise
        except (FileNotFoundError, NotFoundError) as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise PlaceError(
                    f"{self.address} could not {what}: there is no such bucket",
                    "create it, or correct the address in [backups]",
                ) from error
            self._away = False
            raise Missing(f"{self.address} has no such object: {what}", _ELSEWHERE) from error
        except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
            raise PlaceError(
                f"{self.address} could not {what}, for it does not permit it: {_first(error)}",
                "correct the store's keys and their rights (docs/backup-repositories.md)",
            ) from error
        except (BaseError, OSError) as error:
            self._away = True
            raise PlaceError(
                f"{self.address} could not {what}: {_first(error)}",
                "see that the store answers, that its keys are valid and that it has room; then try again",
            ) from error
        self._away = False
        return found

    def create(self, name: str) -> _Object:
        """Begin an object."""
        return _Object(self, name)

    def put(self, name: str, data: bytes) -> None:
        """Write an object at once."""
        self.ask(f"write {name}", lambda store: obstore.put(store, name, data, use_multipart=False))

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object."""
        if length is None:
            data = self.ask(f"read {name}", lambda store: bytes(obstore.get(store, name).bytes()))
            return data[offset:] if offset else data
        if length == 0:
            return b""
        try:
            found = self.ask(
                f"read {name}", lambda store: bytes(obstore.get_range(store, name, start=offset, length=length))
            )
        except Missing:
            raise
        except PlaceError:
            # A store refuses a range that begins behind the end: no fault of the store, but of the object.
            if (size := self.size(name)) is not None and size < offset + length:
                raise self._short(name, offset + length - size) from None
            raise
        if len(found) != length:
            raise self._short(name, length - len(found))
        return found

    def _short(self, name: str, lacking: int) -> Damaged:
        return Damaged(f"{self.address}/{name} ends {lacking} bytes too early", _ELSEWHERE)

    def size(self, name: str) -> int | None:
        """Bytes of an object."""
        try:
            return self.ask(f"look at {name}", lambda store: obstore.head(store, name))["size"]
        except Missing:
            return None

    def objects(self, prefix: str = "") -> Iterator[Object]:
        """Objects below a prefix."""
        what = f"list {prefix or 'all objects'}"
        for found in self.ask(
            what, lambda store: [one for page in obstore.list(store, prefix or None) for one in page]
        ):
            yield Object(found["path"], found["size"], found["last_modified"])

    def folders(self, prefix: str = "") -> list[str]:
        """Common prefixes directly below one."""
        found = self.ask(f"list {prefix}", lambda store: obstore.list_with_delimiter(store, prefix=prefix or None))
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found["common_prefixes"])

    def delete(self, name: str) -> None:
        """Remove an object."""
        try:
            self.ask(f"remove {name}", lambda store: obstore.delete(store, name))
        except Missing:
            return


def _connect(url: str, options: Mapping[str, str], patience: float) -> ObjectStore:
    if url.startswith("memory:"):
        return from_url(url)
    client: dict[str, Any] = {
        # One request, with its body: a store so slow that 8 MiB take longer is tried again, then given up.
        "timeout": timedelta(seconds=min(60.0, max(1.0, patience / 2))),
        "connect_timeout": timedelta(seconds=min(10.0, max(1.0, patience / 4))),
    }
    asked = options.get("allow_http") == "true"
    if asked or any(options.get(f"{who}endpoint", "").startswith("http://") for who in ("", "aws_", "azure_")):
        client["allow_http"] = True
    backoff = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=15), "base": 2}
    # Without a bound on the count: the time alone bounds it.
    retry = {"max_retries": 1000, "retry_timeout": timedelta(seconds=patience), "backoff": backoff}
    settings = {name: value for name, value in options.items() if name != "allow_http"}
    return from_url(url, client_options=client, retry_config=retry, **settings)  # type: ignore[call-overload,no-any-return]  # its overloads name each store's settings


def _interruptible(call: Callable[[], T]) -> T:
    """Call it so that Ctrl-C is heard: obstore's own code waits without looking for signals."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            errors.append(error)

    thread = threading.Thread(target=work, name="store", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return results[0]


def _first(error: BaseException) -> str:
    """The words of obstore's error that a person needs: its first line, without what it says of its own retries."""
    return _BOUNDS.sub("", str(error).strip().split("\n", 1)[0])[:400]
