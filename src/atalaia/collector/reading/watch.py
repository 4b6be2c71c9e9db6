"""What changed in folders, told by the kernel (inotify(7)); docs/decisions/017 says why no library does it."""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import os
import select
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

log = logging.getLogger("atalaia.collector")
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED, _ONLYDIR, _ISDIR = 0x400, 0x800, 0x4000, 0x8000, 0x1000000, 0x40000000
_MASK = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_NAMES = _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT = struct.Struct("iIII")
_ELSEWHERE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "fuse", "virtiofs", "vboxsf", "prl_fs", "gpfs")
"""File systems that others may change without this kernel's knowledge."""


@dataclass(slots=True)
class News:
    """`written`: files with other contents; `named`: names that came, went, or mean another file or other rights.

    `renamed`: new names of files and those that they had before. `folders`: whether folders came or went, or events
    were lost: look at everything.
    """

    written: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    renamed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folders: bool = False


class Watcher:
    """Watches folders, where that is possible; `blind` are those where it is not."""

    def __init__(self) -> None:
        self.blind: set[str] = set()
        self._folders: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._moving: dict[int, tuple[str, ...]] = {}  # files that left their name, and did not get another yet
        self._told: set[str] = set()
        self._add: Callable[[int, bytes, int], int] | None = None
        self._descriptor = -1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            self._add, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
        except (AttributeError, OSError):
            self._tell("this system has no inotify")
        else:
            if self._descriptor < 0:
                self._tell(os.strerror(ctypes.get_errno()))
        self._poll = select.poll()
        if self._descriptor >= 0:
            self._poll.register(self._descriptor, select.POLLIN)

    def _tell(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            log.warning("event=files_polled reason=%r remedy='news of files take longer; nothing is lost'", why)

    def watch(self, folders: Iterable[str]) -> None:
        """Watch these folders and no others."""
        wanted = set(folders)
        for folder in [f for f in self._folders if f not in wanted]:
            number = self._folders.pop(folder)
            if self._paths.pop(number, None) is not None:
                self._remove(self._descriptor, number)
        new = wanted - set(self._folders)
        remote = _remote() if new else ()
        self.blind = set()
        for folder in new:
            if not self._watched(folder, remote):
                self.blind.add(folder)

    def _watched(self, folder: str, remote: tuple[tuple[str, str], ...]) -> bool:
        if self._descriptor < 0 or self._add is None:
            return False
        if kind := _kind(os.path.realpath(folder), remote):
            self._tell(f"{folder} is on {kind}, where others may write")
            return False
        number = self._add(self._descriptor, os.fsencode(folder), _MASK)
        if number < 0:
            code = ctypes.get_errno()
            if code not in (errno.ENOENT, errno.ENOTDIR):
                full = code == errno.ENOSPC
                self._tell("fs.inotify.max_user_watches is reached" if full else f"{folder}: {os.strerror(code)}")
            return False
        if number in self._paths:
            return False  # another name of a folder that is watched: its files' events have the first name
        self._folders[folder] = number
        self._paths[number] = folder
        return True

    def sees(self, *paths: str) -> bool:
        """Whether changes of a file with these names are told of."""
        return any(os.path.dirname(path) in self._folders for path in paths)

    def wait(self, seconds: float) -> bool:
        """Wait for news; whether there are any."""
        return bool(self._poll.poll(max(0, int(seconds * 1000))))

    def news(self) -> News:
        """What happened since it was last asked."""
        found = News()
        if len(self._moving) > 1000:
            self._moving.clear()  # they left for where nobody watches
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, 256 << 10)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                number, mask, cookie, size = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                path = self._take(found, number, mask, data[at : at + size])
                at += size
                if path is not None and mask & _MOVED_FROM:
                    self._moving[cookie] = (*found.renamed.pop(path, ()), path)
                elif path is not None and mask & _MOVED_TO and cookie in self._moving:
                    found.renamed[path] = self._moving.pop(cookie)
        return found

    def _take(self, found: News, number: int, mask: int, name: bytes) -> str | None:
        """The file that an event tells of."""
        if mask & (_OVERFLOW | _IGNORED | _DELETE_SELF | _MOVE_SELF):
            found.folders = True
            if mask & (_IGNORED | _MOVE_SELF) and (gone := self._paths.pop(number, None)):
                self._folders.pop(gone, None)
                if mask & _MOVE_SELF:
                    self._remove(self._descriptor, number)
            return None
        folder = self._paths.get(number)
        if folder is None:
            return None
        if mask & _ISDIR:
            found.folders |= bool(mask & _NAMES)
            return None
        path = os.path.join(folder, os.fsdecode(name.rstrip(b"\0")))
        if mask & _MODIFY:
            found.written.add(path)
        if mask & _NAMES:
            found.named.add(path)
        return path

    def close(self) -> None:
        """Watch nothing more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _remote() -> tuple[tuple[str, str], ...]:
    """Mount points and file systems (proc(5), mountinfo), the longest paths first."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        fields = line.split(" ")
        found.append((_unescaped(fields[4]), fields[fields.index("-") + 1]))
    return tuple(sorted(found, key=lambda one: len(one[0]), reverse=True))


def _unescaped(text: str) -> str:
    return functools.reduce(lambda t, code: t.replace(f"\\{code:03o}", chr(code)), (0o40, 0o11, 0o12, 0o134), text)


def _kind(folder: str, mounts: tuple[tuple[str, str], ...]) -> str | None:
    """The file system of a folder when others than this kernel may change it."""
    for point, kind in mounts:
        if folder == point or folder.startswith(point.rstrip("/") + "/"):
            return kind if kind.startswith(_ELSEWHERE) else None
    return None
