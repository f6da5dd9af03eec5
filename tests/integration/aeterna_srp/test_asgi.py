"""Server-sent events and WebSockets go on in the next process, byte for byte. The control servers lose and repeat
some."""

import base64
import http.client
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("h11", reason="h11 is not installed")

from aeterna.table.events import HandoverEvent

from tests.integration.aeterna_srp.running_broker import Child, RunningBroker

PROGRAM = str(Path(__file__).parent / "asgi_child.py")


class Peer:
    """One client connection; `wrong` is the first message that was not expected."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.wrong = ""
        self.count = 0
        self.address = address
        self.sock = socket.create_connection(address)
        self._rest = b""
        self.begin()
        self.sock.setblocking(False)

    def begin(self) -> None:
        raise NotImplementedError

    def heard(self, data: bytes) -> bytes:
        """Read the complete messages, and return the rest."""
        raise NotImplementedError

    def turn(self) -> None:
        if self.wrong:
            return
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as problem:
            self.wrong = repr(problem)
            return
        if not data:
            self.wrong = "end of the stream"
        self._rest = self.heard(self._rest + data)

    def expect(self, found: bytes, expected: bytes) -> None:
        if found != expected and not self.wrong:
            self.wrong = f"{found!r} instead of {expected!r}"

    def head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(4096)
            assert part
            data += part
        head, _, self._rest = data.partition(b"\r\n\r\n")
        return head


class Listener(Peer):
    """Expects 1, 2, 3, … as server-sent events, each in a chunk of its own."""

    def begin(self) -> None:
        self.sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        assert b"200" in self.head()

    def heard(self, data: bytes) -> bytes:
        while b"\r\n" in data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            self.count += 1
            self.expect(rest[: length + 2], b"data: %d\n\n\r\n" % self.count)
            data = rest[length + 2 :]
        return data


class Echoed(Peer):
    """Sends numbers, each in two fragments with a pause between them, and expects them back with their count."""

    def begin(self) -> None:
        key = base64.b64encode(os.urandom(16))
        self.said, self.half = 0, False
        self.sock.sendall(
            b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        assert b"101" in self.head()

    def turn(self) -> None:
        if not self.wrong and self.said - self.count < 4:
            text = b"%07d" % (self.said + 1)
            self.sock.send(frame(0x80, text[3:]) if self.half else frame(0x01, text[:3]))
            self.said += self.half
            self.half = not self.half
        super().turn()

    def heard(self, data: bytes) -> bytes:
        while len(data) >= 2 and len(data) >= 2 + data[1]:
            self.count += 1
            self.expect(data[2 : 2 + data[1]], b"%07d %d" % (self.count, self.count))
            data = data[2 + data[1] :]
        return data


class Kept(Peer):
    """Sends one request after the other on one connection."""

    def begin(self) -> None:
        self.pids: set[bytes] = set()
        self.ask()

    def ask(self) -> None:
        self.sock.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n" + b"abcd")

    def heard(self, data: bytes) -> bytes:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-len")), 0)
        if not length or len(rest) < length:
            return data
        pid, size = rest[:length].split()
        self.pids.add(pid)
        self.expect(size, b"4")
        self.count += 1
        if b"connection: close" in head:
            self.sock.close()
            self.sock = socket.create_connection(self.address)
            self.sock.setblocking(False)
        self.ask()
        return rest[length:]


def frame(first: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return struct.pack("!BB", first, 0x80 | len(payload)) + mask + masked


class Play:
    """A server under the broker, and its clients."""

    def __init__(self, running: RunningBroker, listener: socket.socket, *args: str) -> None:
        self.running, self.listener, self.args = running, listener, args
        self.peers: list[Peer] = []
        self.generation = 0
        self.child = self.spawn()
        self.until(lambda: running.saw(HandoverEvent.SKIPPED, 1) is not None)

    def spawn(self) -> Child:
        self.generation += 1
        program = [sys.executable, PROGRAM]
        self.child = self.running.spawn(self.generation, *self.args, program=program, fds=[self.listener.fileno()])
        return self.child

    def until(self, condition: Callable[[], object]) -> None:
        def look() -> object:
            for peer in self.peers:
                peer.turn()
            return condition()

        self.running.until(look, 15.0)

    def goes_on(self, more: int = 5) -> None:
        """Wait until every client has a new message or a wrong one."""
        before = [peer.count for peer in self.peers]
        self.until(lambda: all(p.wrong or p.count >= b + more for p, b in zip(self.peers, before, strict=True)))

    def replace(self) -> Child:
        old = self.child
        new = self.spawn()
        self.until(lambda: self.running.saw(HandoverEvent.JOINED, self.generation) is not None)
        self.running.broker.prepare(self.generation - 1, self.generation)
        self.until(lambda: self.running.saw(HandoverEvent.READY, self.generation) is not None)
        self.goes_on()
        self.running.broker.settle()
        old.process.send_signal(signal.SIGTERM)
        self.until(lambda: old.dead)
        return new

    @property
    def wrong(self) -> list[str]:
        return [f"{type(peer).__name__}: {peer.wrong}" for peer in self.peers if peer.wrong]

    def close(self) -> None:
        for peer in self.peers:
            peer.sock.close()


@contextmanager
def playing(running: RunningBroker, *args: str) -> Iterator[Play]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)
        play = Play(running, listener, *args)
        try:
            yield play
        finally:
            play.close()


@pytest.mark.timeout(90)
def test_streams_and_websockets_go_on_over_20_hand_overs(running: RunningBroker) -> None:
    with playing(running) as play:
        kept = [Kept(play.listener.getsockname()) for _ in range(5)]
        play.peers = [
            *kept,
            *(Listener(play.listener.getsockname()) for _ in range(10)),
            *(Echoed(play.listener.getsockname()) for _ in range(10)),
        ]
        for _ in range(20):
            play.replace()

        assert play.wrong == []
        assert running.broker.facts()["connections"] == 20 * 25
        assert all(len(each.pids) == 21 for each in kept)


@pytest.mark.parametrize(("mistake", "who"), [("late=1", "Listener"), ("forget=1", "Echoed")])
def test_the_clients_notice_a_server_that_repeats_or_forgets(running: RunningBroker, mistake: str, who: str) -> None:
    """The control. If half a frame is dropped, the client gets a wrong message or waits for ever."""
    silent = False
    with playing(running, mistake) as play:
        kind = {"Listener": Listener, "Echoed": Echoed}[who]
        play.peers = [kind(play.listener.getsockname()) for _ in range(10)]
        for _ in range(10):
            try:
                play.replace()
            except AssertionError:
                silent = mistake == "forget=1" and running.saw(HandoverEvent.READY, play.generation) is not None
                break
            if play.wrong:
                break

        assert play.wrong or silent


def test_a_rollback_returns_the_connections(running: RunningBroker) -> None:
    with playing(running) as play:
        play.peers = [kind(play.listener.getsockname()) for kind in (Kept, Listener, Echoed)]
        play.goes_on()
        play.spawn()
        play.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        play.until(lambda: running.saw(HandoverEvent.READY, 2) is not None)
        play.goes_on()

        running.broker.return_state(2, 1)
        play.until(lambda: running.saw(HandoverEvent.RETURNED) is not None)
        running.kill(2)
        play.goes_on()

        assert play.wrong == []


def test_a_request_that_is_being_answered_is_finished_where_it_began(running: RunningBroker) -> None:
    with playing(running) as play:
        address = play.listener.getsockname()
        asking = http.client.HTTPConnection(*address, timeout=10)
        asking.request("POST", "/", b"slow")
        play.peers = [Listener(address)]
        first = play.child
        play.goes_on(2)

        play.replace()
        answer = asking.getresponse()

        assert answer.read().split()[0] == b"%d" % first.process.pid
        assert answer.headers["connection"] == "close"
        assert first.process.returncode == 0
        assert first.said("shutdown")
        assert play.wrong == []
        asking.close()
