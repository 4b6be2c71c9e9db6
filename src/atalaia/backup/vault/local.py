"""A folder as a place: private files, written under another name, synced, renamed, the directory synced."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atalaia.backup.vault.place import Damaged, Missing, Object, PlaceError
from atalaia.environment.state import sync_directory

PARTIAL = ".partial"
_AHEAD = 8 << 20  # bytes after which the disk is asked to begin, so that little is left for the sync at the end


class _Writing:
    def __init__(self, path: Path, address: str) -> None:
        self._path = path
        self._written = self._begun = 0
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        try:
            _private(path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._partial, flags, 0o600)
        except OSError as error:
            raise _error(f"{path} cannot be created", error) from error

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                # A write may take only a part, when the disk has room for no more.
                view = view[os.write(self._descriptor, view) :]
            self._written += len(data)
            if self._written - self._begun >= _AHEAD:
                # Linux begins to write dirty pages that it is advised to drop, and does not wait for them.
                os.posix_fadvise(self._descriptor, self._begun, self._written - self._begun, os.POSIX_FADV_DONTNEED)
                self._begun = self._written
        except OSError as error:
            raise _error(f"{self._partial} cannot be written", error) from error

    def finish(self) -> None:
        try:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._partial.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            self.abort()
            raise _error(f"{self._path} cannot be written", error) from error

    def abort(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
        with contextlib.suppress(OSError):
            self._partial.unlink()


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Objects as files below `root`; directories have mode 0700, files 0600."""

    root: Path

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.root)

    def create(self, name: str) -> _Writing:
        """Begin a file."""
        return _Writing(self.root / name, self.address)

    def put(self, name: str, data: bytes) -> None:
        """Write a file at once."""
        sink = self.create(name)
        try:
            sink.write(data)
            sink.finish()
        except BaseException:
            sink.abort()
            raise

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file."""
        path = self.root / name
        try:
            with path.open("rb", buffering=0) as file:
                wanted = os.fstat(file.fileno()).st_size - offset if length is None else length
                parts = []
                while wanted > 0 and (part := os.pread(file.fileno(), wanted, offset)):
                    parts.append(part)
                    offset, wanted = offset + len(part), wanted - len(part)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._here()
            raise Missing(f"{path} is missing", "restore another backup, or from another repository") from error
        except OSError as error:
            raise _error(f"{path} cannot be read", error) from error
        if wanted > 0:
            raise Damaged(f"{path} ends {wanted} bytes too early", "it was cut off; use another backup")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, name: str) -> int | None:
        """Bytes of a file."""
        try:
            return (self.root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _error(f"{self.root / name} cannot be looked at", error) from error

    def begin(self) -> None:
        """Make an empty repository: from now on it is told from a disk that is not mounted. Raises PlaceError."""
        if not self.root.is_dir() or not any(self.root.iterdir()):
            self.put("repository.json", b'{"format": 1}\n')

    def _here(self) -> None:
        """Raise PlaceError when all of the repository is gone: that is a disk not mounted, not an object removed."""
        with contextlib.suppress(OSError):
            if any(self.root.iterdir()):
                return
        raise PlaceError(
            f"the repository {self.root} is not there, or holds nothing",
            "see that its disk is mounted, and that [backups] repository names the right folder",
        )

    def objects(self, prefix: str = "") -> Iterator[Object]:
        """Files below a directory, not those being written."""
        for folder, folders, files in os.walk(self.root / prefix):
            folders.sort()
            for file in sorted(files):
                if file.endswith(PARTIAL):
                    continue
                path = Path(folder, file)
                with contextlib.suppress(FileNotFoundError):
                    seen = path.stat()
                    name = path.relative_to(self.root).as_posix()
                    yield Object(name, seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC))

    def folders(self, prefix: str = "") -> list[str]:
        """Directories directly below one."""
        try:
            return sorted(path.name for path in (self.root / prefix).iterdir() if path.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _error(f"{self.root / prefix} cannot be listed", error) from error

    def delete(self, name: str) -> None:
        """Remove a file, and directories that are empty then."""
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
            while path.parent != self.root:
                path = path.parent
                if not path.is_dir() or any(path.iterdir()):
                    break
                path.rmdir()
            if path.parent.is_dir():
                sync_directory(path.parent if not path.exists() else path)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _error(f"{self.root / name} cannot be removed", error) from error

    def partials(self, prefix: str = "") -> list[Path]:
        """Files that a process which was killed may have left in the middle of writing."""
        return sorted((self.root / prefix).rglob(f"*{PARTIAL}"))


def _private(folder: Path) -> None:
    if folder.is_dir():
        return
    _private(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)  # dumps hold the roles' password verifiers
        sync_directory(folder.parent)


def _error(what: str, error: OSError) -> PlaceError:
    return PlaceError(
        f"{what}: {error.strerror or error}",
        "make room there, or correct its rights, or give another `repository` in [backups]",
    )
