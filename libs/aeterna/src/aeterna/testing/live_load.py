"""Clients whose connections outlive the server. They notice every byte that is lost, repeated or out of order."""

from __future__ import annotations

import selectors
import socket


class LiveLoad:
    """Each client sends numbers and expects them back in order, with its own count. Some requests are always under
    way."""

    def __init__(self, address: tuple[str, int] | str, count: int) -> None:
        self.broken: list[str] = []
        self.answered = 0
        self._selector = selectors.EpollSelector()
        self._socks: list[socket.socket] = []
        self._sent = [0] * count
        self._got = [0] * count
        self._rest = [b""] * count
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        for number in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.connect(address)
            sock.setblocking(False)
            self._socks.append(sock)
            self._selector.register(sock, selectors.EVENT_READ, number)

    def turn(self) -> None:
        """Send on each connection with fewer than two answers outstanding, and read the answers that have come."""
        for number, sock in enumerate(self._socks):
            if sock.fileno() >= 0 and self._sent[number] - self._got[number] < 2:
                self._sent[number] += 1
                try:
                    sock.send(b"%d\n" % self._sent[number])
                except OSError as problem:
                    self._break(number, repr(problem))
        for key, _ in self._selector.select(0):
            self._read(key.data)

    def _read(self, number: int) -> None:
        try:
            data = self._socks[number].recv(65536)
        except OSError as problem:
            data, why = b"", repr(problem)
        else:
            why = "end of the stream"
        if not data:
            self._break(number, why)
            return
        *lines, self._rest[number] = (self._rest[number] + data).split(b"\n")
        for line in lines:
            self._got[number] += 1
            self.answered += 1
            expected = b"%d %d" % (self._got[number], self._got[number])
            if line != expected:
                self._break(number, f"{line!r} instead of {expected!r}")
                return

    def _break(self, number: int, why: str) -> None:
        self.broken.append(f"{number}: {why}")
        self._selector.unregister(self._socks[number])
        self._socks[number].close()

    def close(self) -> None:
        """Close all connections."""
        for sock in self._socks:
            sock.close()
        self._selector.close()
