"""Our transport and asyncio's own behave the same for a protocol."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aeterna.sdk.connections.transport import StreamTransport

LOTS = 4 * 1024 * 1024  # more than the kernel takes at once


class Notes(asyncio.Protocol):
    """Records the calls it gets."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.data = b""
        self.keep_open = False
        self.fails: str = ""
        self.problem: Exception | None = None
        self.transport: asyncio.Transport
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.fails == "data":
            raise ValueError("a mistake")

    def eof_received(self) -> bool:
        self.heard.append("end")
        return self.keep_open

    def pause_writing(self) -> None:
        self.heard.append("full")

    def resume_writing(self) -> None:
        self.heard.append("empty")

    def connection_lost(self, problem: Exception | None) -> None:
        self.heard.append("lost")
        self.problem = problem
        self.gone.set()


class Pair:
    """A protocol with its transport, and its peer's bare socket."""

    def __init__(self, notes: Notes, peer: socket.socket) -> None:
        self.notes = notes
        self.transport = notes.transport
        self.peer = peer

    async def hears(self, what: str) -> None:
        await self.until(lambda: what in self.notes.heard)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def reads(self, least: int) -> bytes:
        """Read so many bytes on the peer's side, or all until the end."""
        found = b""
        async with asyncio.timeout(15):
            while len(found) < least:
                data = await asyncio.get_running_loop().sock_recv(self.peer, 1 << 20)
                if not data:
                    break
                found += data
        return found


async def some_turns() -> None:
    """Wait until the loop has polled every socket several times."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _ours(sock: socket.socket, notes: Notes) -> None:
    StreamTransport(asyncio.get_running_loop(), sock, notes)


async def _asyncios(sock: socket.socket, notes: Notes) -> None:
    await asyncio.get_running_loop().connect_accepted_socket(lambda: notes, sock)


def _tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        # asyncio knows a TCP socket by its protocol, which accept() does not give it.
        return socket.socket(fileno=listener.accept()[0].detach()), peer


@pytest.fixture(params=[_ours, _asyncios], ids=["ours", "asyncio's"])
def made_by(request: pytest.FixtureRequest) -> Callable[[socket.socket, Notes], Awaitable[None]]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[_tcp, socket.socketpair], ids=["tcp", "unix"])
async def pair(
    request: pytest.FixtureRequest, made_by: Callable[[socket.socket, Notes], Awaitable[None]]
) -> AsyncIterator[Pair]:
    sock, peer = request.param()
    peer.setblocking(False)
    notes = Notes()
    await made_by(sock, notes)
    yield Pair(notes, peer)
    if not notes.gone.is_set():
        notes.transport.abort()
        await notes.gone.wait()
    peer.close()


async def test_bytes_come_and_go(pair: Pair) -> None:
    pair.peer.send(b"question")
    await pair.until(lambda: pair.notes.data == b"question")
    pair.transport.write(b"ans")
    pair.transport.writelines([b"w", b"er"])

    assert await pair.reads(6) == b"answer"
    assert pair.notes.heard == ["made"]


async def test_it_reports_its_addresses_and_its_protocol(pair: Pair) -> None:
    sock = pair.transport.get_extra_info("socket")

    assert pair.transport.get_extra_info("peername") == pair.peer.getsockname()
    assert pair.transport.get_extra_info("sockname") == pair.peer.getpeername()
    assert pair.transport.get_extra_info("cipher", "none") == "none"
    assert pair.transport.get_protocol() is pair.notes
    if sock.family == socket.AF_INET:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_nothing_is_read_while_reading_is_paused(pair: Pair) -> None:
    pair.transport.pause_reading()
    pair.transport.pause_reading()
    pair.peer.send(b"question")
    await some_turns()

    assert pair.notes.data == b""
    assert not pair.transport.is_reading()
    pair.transport.resume_reading()
    pair.transport.resume_reading()
    assert pair.transport.is_reading()
    await pair.until(lambda: pair.notes.data == b"question")


async def test_a_peer_that_does_not_read_pauses_writing(pair: Pair) -> None:
    pair.transport.write(b"x" * LOTS)
    await pair.hears("full")
    assert pair.transport.get_write_buffer_size() > pair.transport.get_write_buffer_limits()[1]
    pair.transport.write(b"y")

    assert await pair.reads(LOTS + 1) == b"x" * LOTS + b"y"
    await pair.hears("empty")
    assert pair.transport.get_write_buffer_size() == 0
    assert pair.notes.heard == ["made", "full", "empty"]


async def test_limits_of_its_buffer_can_be_set(pair: Pair) -> None:
    assert pair.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    pair.transport.set_write_buffer_limits(high=1000)
    assert pair.transport.get_write_buffer_limits() == (250, 1000)
    pair.transport.set_write_buffer_limits(low=1000)
    assert pair.transport.get_write_buffer_limits() == (1000, 4000)
    with pytest.raises(ValueError, match="high"):
        pair.transport.set_write_buffer_limits(high=1, low=2)
    pair.transport.set_write_buffer_limits(high=2 * LOTS)
    pair.transport.write(b"x" * LOTS)
    assert pair.notes.heard == ["made"]
    pair.transport.set_write_buffer_limits(high=1000)
    assert pair.notes.heard == ["made", "full"]


async def test_written_bytes_are_sent_before_it_closes(pair: Pair) -> None:
    pair.transport.write(b"x" * LOTS)
    pair.transport.close()
    pair.transport.close()

    assert pair.transport.is_closing()
    assert len(await pair.reads(LOTS + 1)) == LOTS
    await pair.hears("lost")
    assert pair.notes.problem is None


async def test_nothing_is_read_while_it_closes(pair: Pair) -> None:
    pair.transport.write(b"x" * LOTS)
    pair.transport.close()
    pair.peer.send(b"too late")
    await some_turns()

    assert pair.notes.data == b""


async def test_bytes_written_after_the_end_are_dropped(pair: Pair) -> None:
    pair.transport.close()
    pair.transport.write(b"too late")
    await pair.hears("lost")

    assert await pair.reads(1) == b""


async def test_abort_forgets_what_was_not_sent(pair: Pair) -> None:
    pair.transport.write(b"x" * LOTS)
    pair.transport.abort()
    await pair.hears("lost")

    assert pair.transport.get_write_buffer_size() == 0
    assert pair.notes.problem is None
    assert len(await pair.reads(LOTS)) < LOTS


async def test_the_peers_end_is_its_own_end(pair: Pair) -> None:
    pair.peer.send(b"last words")
    pair.peer.shutdown(socket.SHUT_WR)
    await pair.hears("lost")

    assert pair.notes.data == b"last words"
    assert pair.notes.heard == ["made", "end", "lost"]
    assert pair.notes.problem is None


async def test_a_protocol_may_answer_after_the_peers_end(pair: Pair) -> None:
    pair.notes.keep_open = True
    pair.peer.shutdown(socket.SHUT_WR)
    await pair.hears("end")
    pair.transport.write(b"answer")

    assert await pair.reads(6) == b"answer"
    assert not pair.transport.is_closing()
    assert pair.notes.heard == ["made", "end"]


async def test_its_end_is_sent_after_everything_it_wrote(pair: Pair) -> None:
    assert pair.transport.can_write_eof()
    pair.transport.write(b"x" * LOTS)
    pair.transport.write_eof()
    pair.transport.write_eof()
    with pytest.raises(RuntimeError):
        pair.transport.write(b"more")

    assert len(await pair.reads(LOTS + 1)) == LOTS
    pair.peer.send(b"still here")
    await pair.until(lambda: pair.notes.data == b"still here")
    assert not pair.transport.is_closing()


async def test_a_reset_is_told_with_its_reason(pair: Pair) -> None:
    pair.transport.write(b"never read")
    pair.peer.close()
    await pair.hears("lost")

    assert isinstance(pair.notes.problem, ConnectionResetError)


async def test_a_write_to_a_peer_that_is_gone_ends_it(pair: Pair) -> None:
    pair.transport.pause_reading()
    pair.peer.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            while "lost" not in pair.notes.heard:
                pair.transport.write(b"anybody?")
                await asyncio.sleep(0.001)

    assert pair.notes.heard == ["made", "lost"]
    assert isinstance(pair.notes.problem, OSError)


async def test_a_protocol_that_fails_loses_its_own_connection(pair: Pair) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))
    pair.notes.fails = "data"
    pair.peer.send(b"question")
    await pair.hears("lost")

    assert told == ["a mistake"]
    assert isinstance(pair.notes.problem, ValueError)
