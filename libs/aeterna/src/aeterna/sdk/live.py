"""Established connections that outlive their process, for asyncio servers with a parser of their own.

    class Echo(LiveProtocol):
        count = 0
        def received(self, data): self.count += 1; self.write(data)
        def export_state(self): return {"count": self.count}
        def import_state(self, state): self.count = state["count"]

    live = LiveConnections(client, Echo)          # before load_context
    await client.load_context()
    await live.serve(client.get_listener_socket())

Plain TCP and Unix streams only: the keys of a TLS connection cannot leave Python's `ssl`.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from aeterna.sdk.async_client import AsyncAeternaClient
from aeterna.sdk.connections.accept_loop import AcceptLoop
from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.connections.transport import StreamTransport
from aeterna.sdk.handover.handlers import Frozen, Resumed

DRAIN_S = 0.5
STAYING_S = 0.05  # the wait for connections that cannot move unless they finish at once
DRAIN_STEP_S = 0.001
BACKLOG = 4096
ADOPTED_AT_ONCE = 1024  # more, because these connections stand still until they are adopted


class LiveProtocol(asyncio.Protocol):
    """One connection. Override the methods you need; write with `write`, which respects the freeze."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.live: LiveConnections | None = None
        self.inherited: Connection | None = None
        self.frozen = False
        self._unsent = bytearray()
        self._handed_over = False

    # --- for the application

    def opened(self) -> None:
        """Called for a new connection and, after `import_state`, for an inherited one."""

    def received(self, data: bytes) -> None:
        """Bytes from the peer. Over all generations each byte is passed exactly once."""

    def closed(self, problem: Exception | None) -> None:
        """The connection has ended. Not called when it goes on in another process."""

    def export_state(self) -> Any:
        """The state that the next process needs to go on, as JSON."""
        return None

    def import_state(self, state: Any) -> None:
        """Called in the next process with the result of `export_state`."""

    def unread(self) -> bytes:
        """Bytes that were received and not consumed: the next process receives them again."""
        return b""

    def idle(self) -> bool:
        """True if no request is under way, so that the connection can move. If it takes long, the connection stays
        here."""
        return True

    def stays(self) -> bool:
        """True if only this process can finish the request. Then the freeze waits only STAYING_S for it."""
        return False

    def write(self, data: bytes) -> None:
        """Bytes that are written after `export_state` are kept, and sent only if this process goes on serving."""
        if self.frozen:
            self._unsent += data
        elif self.transport is not None:
            self.transport.write(data)

    # --- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.live is not None:
            self.live.protocols.add(self)
        if self.inherited is None:
            self.opened()
        else:
            self._unpack(self.inherited)
            self.inherited = None

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def connection_lost(self, problem: Exception | None) -> None:
        if self.live is not None:
            self.live.protocols.discard(self)
        if not self._handed_over:
            self.closed(problem)

    # --- for LiveConnections

    def stand_still(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()

    @property
    def still(self) -> bool:
        """True if every request that was read is answered and every answer has left this process."""
        return self.transport is not None and self.transport.get_write_buffer_size() == 0 and self.idle()

    def go_on(self) -> None:
        self.frozen = False
        if self.transport is None or self.transport.is_closing():
            return
        if self._unsent:
            self.transport.write(bytes(self._unsent))
            self._unsent.clear()
        self.transport.resume_reading()

    def packed(self) -> Connection:
        assert self.transport is not None
        sock = self.transport.get_extra_info("socket")
        self.frozen = True
        return Connection(socket.socket(fileno=os.dup(sock.fileno())), self.export_state(), self.unread())

    def _unpack(self, connection: Connection) -> None:
        self.import_state(connection.app)
        self.opened()
        if connection.unread:
            self.received(connection.unread)

    def let_go(self) -> None:
        """The connection goes on in the next process: closing this copy sends nothing to the peer."""
        self._handed_over = True
        if self.transport is not None:
            self.transport.abort()


class LiveConnections:
    """Sets the client's handlers `on_freeze`, `on_resume` and `on_retired`. The application may set `frozen_state`,
    `resumed` and `retired` instead."""

    def __init__(self, client: AsyncAeternaClient, factory: Callable[[], LiveProtocol]) -> None:
        self.protocols: set[LiveProtocol] = set()
        self.frozen_state: Callable[[], dict[str, Any]] = dict
        self.resumed: Callable[[Resumed], None] = lambda _resumed: None
        self.retired: Callable[[], None] = lambda: None
        self._client = client
        self._factory = factory
        self._listener: socket.socket | None = None
        self._accepting: socket.socket | None = None  # a copy of the listener, while connections are accepted
        self._accept_loop: AcceptLoop | None = None
        self._packed: dict[Connection, LiveProtocol] = {}
        client.on_freeze(self._freeze)
        client.on_resume(self._resume)
        client.on_retired(self._retire)

    async def serve(self, listener: socket.socket | None) -> None:
        """Adopt the inherited connections, then accept new ones."""
        await self.adopt(self._client.inherited_connections)
        self._listener = listener
        self.accept()

    def accept(self) -> None:
        if self._listener is None or self._accepting is not None:
            return
        self._accepting = self._listener.dup()
        self._accepting.listen(BACKLOG)
        self._accept_loop = AcceptLoop(self._accepting, lambda sock: self._open(sock, self._new()))
        self._accept_loop.start()

    def stop_accepting(self) -> None:
        """Stop accepting. Connections stay in the queue of the listener for the next process that accepts."""
        if self._accept_loop is not None and self._accepting is not None:
            self._accept_loop.stop()
            self._accepting.close()
            self._accept_loop = self._accepting = None

    async def adopt(self, connections: Sequence[Connection]) -> None:
        for at in range(0, len(connections), ADOPTED_AT_ONCE):
            for each in connections[at : at + ADOPTED_AT_ONCE]:
                protocol = self._new()
                protocol.inherited = each
                self._open(each.sock, protocol)
            await asyncio.sleep(0)  # serve the adopted connections before the next batch

    def _open(self, sock: socket.socket, protocol: LiveProtocol) -> None:
        try:
            StreamTransport(asyncio.get_running_loop(), sock, protocol)
        except OSError:
            sock.close()  # one broken connection must not end the others

    def _new(self) -> LiveProtocol:
        protocol = self._factory()
        protocol.live = self
        return protocol

    async def _freeze(self) -> Frozen:
        """A connection that does not come to rest in time, for example because its peer does not read, stays here."""
        self.stop_accepting()
        waiting = [each for each in self.protocols if each.transport is not None and not each.transport.is_closing()]
        for each in waiting:
            each.stand_still()
        clock = asyncio.get_running_loop()
        began = clock.time()
        while True:
            self._packed |= {each.packed(): each for each in waiting if each.still}
            waiting = [each for each in waiting if not each.frozen]
            waited = clock.time() - began
            if waited >= DRAIN_S or (waited >= STAYING_S and all(each.stays() for each in waiting)) or not waiting:
                break
            await asyncio.sleep(DRAIN_STEP_S)  # asyncio has no event for an empty write buffer
        for each in waiting:
            each.go_on()
        return Frozen(changed=self.frozen_state(), connections=list(self._packed))

    async def _resume(self, resumed: Resumed) -> None:
        packed, self._packed = self._packed, {}
        for connection, protocol in packed.items():
            if connection in resumed.lost:
                assert protocol.transport is not None
                protocol.transport.abort()
            else:
                protocol.go_on()
                connection.sock.close()
        await self.adopt([each for each in resumed.connections if each not in packed])
        self.accept()
        self.resumed(resumed)

    def _retire(self) -> None:
        packed, self._packed = self._packed, {}
        for protocol in packed.values():
            protocol.let_go()
        self.retired()
