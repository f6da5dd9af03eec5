"""Clients that send requests all the time and count every request that is not answered."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

Where = tuple[str, int]
_TIMEOUT_S = 5.0


class Load:
    """`with Load(fresh, address) as load: …; assert not load.failed`."""

    def __init__(self, client: Callable[[Load, Where], None], address: Where, threads: int = 4) -> None:
        self.done = 0
        self.failed: Counter[str] = Counter()
        self.generations: Counter[str] = Counter()
        self.longest_s = 0.0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=client, args=(self, address), name=f"load-{i}", daemon=True) for i in range(threads)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S * 2)

    def passed(self, answer: bytes, since: float) -> None:
        """One request was answered."""
        generation = answer.split(b" ")[0].decode()
        with self._lock:
            self.done += 1
            self.generations[generation] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - since)

    def missed(self, reason: object) -> None:
        """One request failed."""
        with self._lock:
            self.failed[f"{type(reason).__name__}: {reason}"[:80]] += 1

    def until(self, done: int, patience_s: float = 30.0) -> None:
        """Wait for so many answers."""
        deadline = time.monotonic() + patience_s
        while self.done < done and time.monotonic() < deadline:
            self.stopping.wait(0.01)


def fresh(load: Load, address: Where) -> None:
    """A connection for each request."""
    while not load.stopping.is_set():
        since = time.monotonic()
        try:
            with socket.create_connection(address, _TIMEOUT_S) as connection:
                connection.sendall(b"question\n")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
            if not answer.endswith(b" question\n"):
                raise ValueError(f"half an answer: {answer!r}")
            load.passed(answer, since)
        except (OSError, ValueError) as problem:
            load.missed(problem)
            time.sleep(0.001)


def kept_alive(load: Load, address: Where, path: str = "/") -> None:
    """HTTP/1.1 on one connection, until the server says `Connection: close`."""
    connection: socket.socket | None = None
    question = f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()
    while not load.stopping.is_set():
        since = time.monotonic()
        try:
            if connection is None:
                connection = socket.create_connection(address, _TIMEOUT_S)
            connection.sendall(question)
            head, body = _response(connection)
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise ValueError(head.split(b"\r\n")[0].decode())
            load.passed(body, since)
            if b"connection: close" in head.lower():
                connection.close()
                connection = None
        except (OSError, ValueError) as problem:
            load.missed(problem)
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.001)
    if connection is not None:
        connection.close()


def datagrams(load: Load, address: Where) -> None:
    """One datagram at a time; one that is not answered within a second is lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(1.0)
        number = 0
        while not load.stopping.is_set():
            since, number = time.monotonic(), number + 1
            question = f"question {number}".encode()
            try:
                own.sendto(question, address)
                answer = own.recv(2048)
                while not answer.endswith(b" " + question):  # the late answer to a datagram that was given up
                    answer = own.recv(2048)
                load.passed(answer, since)
            except OSError as problem:
                load.missed(problem)


def queue(address: Where, count: int) -> list[socket.socket]:
    """Connections that have sent a request, whether or not a process accepts them."""
    waiting = []
    for _ in range(count):
        connection = socket.create_connection(address, _TIMEOUT_S)
        connection.sendall(b"question\n")
        connection.settimeout(_TIMEOUT_S * 2)
        waiting.append(connection)
    return waiting


def answered(waiting: list[socket.socket]) -> int:
    """How many of these connections get an answer."""
    count = 0
    for connection in waiting:
        with suppress(OSError):
            count += connection.recv(4096).endswith(b" question\n")
        connection.close()
    return count


def _response(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("closed before the answer" if not data else "closed in the answer")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("closed in the body")
        body += part
    return head, body
