"""A TCP or TLS server for streams of messages; its connections are not read while the inbox is full."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading

from atalaia.collector.listeners.given import Address, bind, own_address
from atalaia.collector.listeners.inbox import Inbox
from atalaia.collector.listeners.syslog_frames import Framer
from atalaia.runtime.tls import TlsFiles, renewed_context

log = logging.getLogger("atalaia.collector")
_READ = 1 << 18


class TcpServer:
    """Puts (peer's address, its messages) into the inbox."""

    def __init__(
        self,
        place: Address,
        what: str,
        inbox: Inbox[tuple[str, list[bytes]]],
        idle_timeout: float,
        longest: int,
        tls: TlsFiles | None,
    ) -> None:
        """`idle_timeout` in seconds, `longest` message in bytes. Raises InputError for unusable PEM files."""
        self._place, self._what, self._inbox = place, what, inbox
        self._idle, self._longest = idle_timeout, longest
        self._tls = renewed_context(tls) if tls else None
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._stopping = asyncio.Event()
        self.address = str(place)

    @property
    def state(self) -> str:
        """For /targets."""
        return f"{len(self._connections)} connections"

    def start(self) -> None:
        """Raises InputError."""
        self._socket = bind(self._place, socket.SOCK_STREAM, self._what)
        self._socket.setblocking(False)
        self._loop = asyncio.new_event_loop()
        self.address = own_address(self._socket)
        self._thread.start()

    def stop(self) -> None:
        """What has arrived is read; then the connections are closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._accept())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _accept(self) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not stopping.done():
                accepting = asyncio.ensure_future(self._loop.sock_accept(self._socket))
                await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not accepting.done():
                    accepting.cancel()
                    break
                try:
                    connection, _ = accepting.result()
                except OSError as error:  # no descriptors left, most likely
                    log.warning("event=accept_failed listener=%r reason=%r", self._what, str(error))
                    await asyncio.sleep(0.5)
                    continue
                task = asyncio.ensure_future(self._serve(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            self._socket.close()
            if self._connections:
                await asyncio.wait(self._connections)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peer = connection.getpeername()[0].removeprefix("::ffff:")
            context = self._tls.get() if self._tls else None
            # The context is asked for here, so that a renewed certificate is used from the next connection on.
            reader, writer = await self._streams(connection, context)
        except (TimeoutError, OSError) as error:
            connection.close()
            log.warning("event=connection_refused listener=%r reason=%r", self._what, str(error))
            return
        framer = Framer(self._longest)
        try:
            await self._read(reader, framer, peer)
        except OSError as error:
            log.info("event=connection_broken listener=%r peer=%s reason=%r", self._what, peer, str(error))
        finally:
            await self._put(peer, framer.end())
            writer.close()
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 2)

    async def _streams(
        self, connection: socket.socket, context: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader(limit=_READ, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,  # type: ignore[arg-type]  # an SSLContext or None
            ssl_handshake_timeout=10 if context else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _read(self, reader: asyncio.StreamReader, framer: Framer, peer: str) -> None:
        """Until the sender ends, is silent for too long, or we stop and nothing more has arrived."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while True:
                reading = asyncio.ensure_future(reader.read(_READ))
                done, _ = await asyncio.wait({reading, stopping}, timeout=self._idle, return_when="FIRST_COMPLETED")
                if reading not in done:
                    if stopping in done:
                        # One more look at what lies in the socket's buffer.
                        await asyncio.wait({reading}, timeout=0.05)
                    if not reading.done():
                        reading.cancel()
                        return
                data = reading.result()
                if not data:
                    return
                await self._put(peer, framer.feed(data))
        finally:
            stopping.cancel()

    async def _put(self, peer: str, messages: list[bytes]) -> None:
        if messages:
            size = sum(map(len, messages)) + 64 * len(messages)
            if not self._inbox.offer((peer, messages), size):
                # It is full: this connection is not read until there is room, and its sender waits.
                await self._loop.run_in_executor(None, self._inbox.put, (peer, messages), size)
