"""A UDP socket: datagrams into an inbox as fast as they come; what cannot be kept is counted and told."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from atalaia.collector.listeners.given import Address, bind, own_address
from atalaia.collector.listeners.inbox import Inbox

_BUFFER = 16 << 20  # bytes that the kernel is asked to hold; it gives half of net.core.rmem_max at least
_AT_ONCE = 2000  # datagrams of a batch
_FORCE = 33  # SO_RCVBUFFORCE of <asm-generic/socket.h>, for processes that may
_LOOK = 2.0  # seconds between looks at the kernel's count of drops


class UdpServer:
    """Puts (peer's address, its datagrams) into the inbox. `dropped(count, reason)` hears of losses."""

    def __init__(
        self,
        place: Address,
        what: str,
        inbox: Inbox[tuple[str, list[bytes]]],
        dropped: Callable[[int, str], None],
        trailing: bytes = b"",
    ) -> None:
        """`trailing`: bytes that are no part of a message where it ends."""
        self._trailing = trailing
        self._place, self._what, self._inbox, self._dropped = place, what, inbox, dropped
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._stopping = threading.Event()
        self.address = str(place)
        self.state = "listening"

    def start(self) -> None:
        """Raises InputError."""
        self._socket = bind(self._place, socket.SOCK_DGRAM, self._what)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _FORCE, _BUFFER)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.setblocking(False)
        self._inode = os.fstat(self._socket.fileno()).st_ino
        self.address = own_address(self._socket)
        self._thread.start()

    def stop(self) -> None:
        """What has arrived is taken."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            self._socket.close()

    def _run(self) -> None:
        looked, drops = time.monotonic(), 0
        while True:
            batch = self._receive()
            for peer, messages in batch.items():
                if not self._inbox.offer((peer, messages), sum(map(len, messages)) + 64 * len(messages)):
                    self._dropped(len(messages), "spool_full")
            if time.monotonic() - looked > _LOOK or (self._stopping.is_set() and not batch):
                looked, before, drops = time.monotonic(), drops, self._kernel_drops(drops)
                if drops > before:
                    self._dropped(drops - before, "socket_buffer")
            if self._stopping.is_set() and not batch:
                return

    def _receive(self) -> dict[str, list[bytes]]:
        """The datagrams that are there, by sender; waits a moment for the first."""
        found: dict[str, list[bytes]] = {}
        select.select([self._socket], [], [], 0.2)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                message, peer = self._socket.recvfrom(65536)
                if message:
                    found.setdefault(peer[0].removeprefix("::ffff:"), []).append(message.rstrip(self._trailing))
        return found

    def _kernel_drops(self, before: int) -> int:
        """Datagrams for which the socket's buffer had no room (proc(5), /proc/net/udp); `before` where unknown."""
        for name in ("udp", "udp6"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                    words = line.split()
                    if int(words[9]) == self._inode:
                        return int(words[12])
        return before
