"""A server for tests: it takes LISTEN_FDS, drains on SIGTERM and imports only the standard library, so it starts fast.

A line over TCP or a Unix socket is answered `<generation> <line>`, and the connection is closed. An HTTP GET is
answered likewise and kept alive; a datagram is answered to its sender. SAMPLE_* variables make the server misbehave.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress

GENERATION = os.environ.get("AETERNA_GENERATION", "0")
_IDLE_S = 0.3  # idle kept-alive connections are closed so long after the drain began; by then no request is under way


def want(name: str) -> float | None:
    """The number in SAMPLE_<name>: `2`, or `2@3` for the third generation only. None if it is not for this
    generation."""
    value, _, generation = os.environ.get(f"SAMPLE_{name}", "").partition("@")
    return float(value) if value and generation in ("", GENERATION) else None


def notify(text: str) -> None:
    """Send a datagram to the notify socket."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            teller.sendto(text.encode(), "\0" + name[1:] if name.startswith("@") else name)


class Sample:
    """One thread, one selector."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.listeners: list[socket.socket] = []
        self.open: dict[socket.socket, bytes] = {}
        self.draining_since: float | None = None
        self.served = 0

    def run(self) -> None:
        """Serve until SIGTERM and the end of the last request."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.selector.register(wake_read, selectors.EVENT_READ, self.drain)
        for i in range(int(os.environ.get("LISTEN_FDS", "0"))):
            listener = socket.socket(fileno=3 + i)
            self.listeners.append(listener)
        if want("BIND") is not None:  # bind an own port instead of using the lent sockets
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                own = socket.socket(socket.AF_INET, kind)
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                own.bind(("127.0.0.1", int(want("BIND") or 0)))
                own.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    own.listen(4096)
                self.listeners.append(own)
        for listener in self.listeners:
            serve = self.datagram if listener.type == socket.SOCK_DGRAM else self.accept
            self.selector.register(listener, selectors.EVENT_READ, serve)
        self.misbehave()
        while self.draining_since is None or self.open:
            for key, _ in self.selector.select(0.05):
                if key.fileobj in self.open:
                    self.read(key.fileobj)
                elif key.fd in self.selector.get_map():
                    key.data(key.fileobj)
            if self.draining_since is not None and time.monotonic() - self.draining_since > _IDLE_S:
                for connection in [c for c, data in self.open.items() if not data]:
                    self.close(connection)
        time.sleep(want("LINGER") or 0.0)

    def misbehave(self) -> None:
        """Do what the SAMPLE_* variables say."""
        time.sleep(want("READY_AFTER") or 0.0)
        if want("EXIT") is not None:
            sys.exit(int(want("EXIT") or 0))
        if want("SHUTDOWN") is not None:
            for listener in self.listeners:
                listener.shutdown(socket.SHUT_RDWR)
        if want("UNREADY") is None:
            notify("READY=1")
            if "AETERNA_READY_FD" in os.environ:
                os.write(int(os.environ["AETERNA_READY_FD"]), b"1")
        if want("REQUESTS") is not None:
            notify("X_AETERNA_REQUESTS=0\nX_AETERNA_ERRORS=0")
            notify(f"X_AETERNA_REQUESTS={want('REQUESTS')}\nX_AETERNA_ERRORS={want('ERRORS') or 0}")
        crash = want("CRASH_AFTER")
        if crash is not None:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
            signal.setitimer(signal.ITIMER_REAL, max(crash, 0.001))
        if want("DEAF") is not None:  # does not accept connections and ignores SIGTERM
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(want("DEAF") or 0.0)

    def drain(self, _wake: object) -> None:
        """SIGTERM: accept nothing more, finish the rest."""
        if self.draining_since is None:
            self.draining_since = time.monotonic()
            for listener in self.listeners:
                self.selector.unregister(listener)
                listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Accept the waiting connections."""
        for _ in range(64):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, OSError):
                return
            connection.setblocking(False)
            self.open[connection] = b""
            self.selector.register(connection, selectors.EVENT_READ, self.read)

    def datagram(self, held: socket.socket) -> None:
        """Answer datagrams to their senders."""
        for _ in range(64):
            try:
                data, sender = held.recvfrom(2048)
            except (BlockingIOError, OSError):
                return
            held.sendto(GENERATION.encode() + b" " + data, sender)

    def read(self, connection: socket.socket) -> None:
        """Read a line, or the head of a GET."""
        try:
            part = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self.close(connection)
            return
        data = self.open[connection] + part
        if data.startswith(b"GET "):
            while b"\r\n\r\n" in data:
                _, _, data = data.partition(b"\r\n\r\n")
                last = self.draining_since is not None
                self.answer(connection, last)
                if last:
                    self.close(connection)
                    return
            self.open[connection] = data
        elif b"\n" in data:
            time.sleep(want("SLOW") or 0.0)
            self.send(connection, GENERATION.encode() + b" " + data)
            self.close(connection)
        else:
            self.open[connection] = data

    def answer(self, connection: socket.socket, last: bool) -> None:
        """Answer an HTTP request."""
        body = GENERATION.encode()
        status = b"500 Broken" if want("BROKEN") is not None else b"200 OK"
        end = b"Connection: close\r\n" if last else b""
        self.send(connection, b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), end, body))

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send an answer, which fits into any socket buffer."""
        with suppress(OSError):  # the client has hung up
            connection.sendall(data)

    def close(self, connection: socket.socket) -> None:
        """Close the connection."""
        if self.open.pop(connection, None) is not None:
            self.selector.unregister(connection)
            connection.close()


if __name__ == "__main__":
    Sample().run()
