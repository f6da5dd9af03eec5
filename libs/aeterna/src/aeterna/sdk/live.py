"""Established connections that outlive their process, for asyncio servers that own their parser.

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
from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.connections.transport import StreamTransport
from aeterna.sdk.handover.handlers import Frozen, Resumed, log

DRAIN_S = 0.5
STAYING_S = 0.05  # for what may be finished in a moment, and else stays
DRAIN_STEP_S = 0.001
BACKLOG = 4096
ACCEPTED_AT_ONCE = 128  # connections in one turn of the loop
ADOPTED_AT_ONCE = 1024  # more, because they are waiting: whoever is served in between delays them
NO_ROOM_S = 1.0  # without a descriptor left, until the next look at the queue


class LiveProtocol(asyncio.Protocol):
    """One connection. Override what is of interest; write with `write`, which knows about the freeze."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.live: LiveConnections | None = None
        self.inherited: Connection | None = None
        self.frozen = False
        self._unsent = bytearray()
        self._handed_over = False

    # --- for the application

    def opened(self) -> None:
        """A new connection, or one that was inherited, after `import_state`."""

    def received(self, data: bytes) -> None:
        """Bytes from the peer, each exactly once over all generations."""

    def closed(self, problem: Exception | None) -> None:
        """The connection has ended. Not called when it goes on in another process."""

    def export_state(self) -> Any:
        """What the next process needs to go on, as JSON."""
        return None

    def import_state(self, state: Any) -> None:
        """The other end of `export_state`."""

    def unread(self) -> bytes:
        """Bytes that were received and are not consumed: the next process receives them again."""
        return b""

    def idle(self) -> bool:
        """Is nothing under way for this connection? It is handed over then, and stays here if that takes long."""
        return True

    def stays(self) -> bool:
        """Is something under way that only this process can finish? Then nobody waits long for it to rest."""
        return False

    def write(self, data: bytes) -> None:
        """After `export_state` nothing may be written. What is all the same leaves only if this process goes on."""
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
        """Everything that was read is answered, and every answer has left this process."""
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
        """The connection goes on elsewhere: closing this copy sends nothing to the peer."""
        self._handed_over = True
        if self.transport is not None:
            self.transport.abort()


class LiveConnections:
    """Takes the client's handlers `on_freeze`, `on_resume` and `on_retired`; `frozen_state`, `resumed` and `retired`
    are the application's."""

    def __init__(self, client: AsyncAeternaClient, factory: Callable[[], LiveProtocol]) -> None:
        self.protocols: set[LiveProtocol] = set()
        self.frozen_state: Callable[[], dict[str, Any]] = dict
        self.resumed: Callable[[Resumed], None] = lambda _resumed: None
        self.retired: Callable[[], None] = lambda: None
        self._client = client
        self._factory = factory
        self._listener: socket.socket | None = None
        self._door: socket.socket | None = None  # the listener, while it is listened to
        self._again: asyncio.TimerHandle | None = None
        self._packed: dict[Connection, LiveProtocol] = {}
        client.on_freeze(self._freeze)
        client.on_resume(self._resume)
        client.on_retired(self._retire)

    async def serve(self, listener: socket.socket | None) -> None:
        """Go on with the inherited connections, then accept new ones."""
        await self.adopt(self._client.inherited_connections)
        self._listener = listener
        self.accept()

    def accept(self) -> None:
        if self._listener is None or self._door is not None:
            return
        self._door = self._listener.dup()
        self._door.setblocking(False)
        self._door.listen(BACKLOG)
        self._look(self._door)

    def stop_accepting(self) -> None:
        """The queue of the listener waits for whoever accepts next."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None

    async def adopt(self, connections: Sequence[Connection]) -> None:
        for at in range(0, len(connections), ADOPTED_AT_ONCE):
            for each in connections[at : at + ADOPTED_AT_ONCE]:
                protocol = self._new()
                protocol.inherited = each
                self._open(each.sock, protocol)
            await asyncio.sleep(0)  # whoever was adopted is served while the others wait

    def _look(self, door: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(door, self._accept_some, door)

    def _accept_some(self, door: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = door.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                log.error("cannot accept, and will look again in %.0f s: %s", NO_ROOM_S, problem)
                loop = asyncio.get_running_loop()
                loop.remove_reader(door)
                self._again = loop.call_later(NO_ROOM_S, self._look, door)
                return
            self._open(sock, self._new())

    def _open(self, sock: socket.socket, protocol: LiveProtocol) -> None:
        try:
            StreamTransport(asyncio.get_running_loop(), sock, protocol)
        except OSError:
            sock.close()  # one that cannot go on is no reason to lose the others

    def _new(self) -> LiveProtocol:
        protocol = self._factory()
        protocol.live = self
        return protocol

    async def _freeze(self) -> Frozen:
        """A connection that does not come to rest, say because its peer does not read, is finished by this process."""
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
            await asyncio.sleep(DRAIN_STEP_S)  # transports have no event for "all is written"
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
