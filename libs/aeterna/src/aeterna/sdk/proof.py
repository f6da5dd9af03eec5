"""Has anybody read or written on this connection since? The kernel counts, so it can be proven.

Bytes read = received − still in the queue. Bytes written = acknowledged + still in the queue.
"""

import array
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass

_SIOCINQ = termios.FIONREAD
_SIOCOUTQ = termios.TIOCOUTQ
_ACKED_AND_RECEIVED = struct.Struct("=QQ")
_ACKED_AT = 120  # tcpi_bytes_acked, tcpi_bytes_received in struct tcp_info
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Proof:
    read: int
    written: int


def take(sock: socket.socket) -> Proof | None:
    """None where the kernel does not count: Unix sockets."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return None
    for _ in range(_ATTEMPTS):
        before = _counters(sock)
        if before is None:
            return None
        unread, unsent = _queue(sock, _SIOCINQ), _queue(sock, _SIOCOUTQ)
        if _counters(sock) == before:
            return Proof(before[1] - unread, before[0] + unsent)
    return None  # data streams in faster than two calls take: without a proof it counts as touched


def untouched(sock: socket.socket, before: Proof | None) -> bool:
    return before is not None and take(sock) == before


def _counters(sock: socket.socket) -> tuple[int, int] | None:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    if len(info) < _ACKED_AT + _ACKED_AND_RECEIVED.size:
        return None
    acked, received = _ACKED_AND_RECEIVED.unpack_from(info, _ACKED_AT)
    return acked, received


def _queue(sock: socket.socket, request: int) -> int:
    value = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), request, value)
    return value[0]
