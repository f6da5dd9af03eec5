"""Has any process read or written on a connection since it was frozen? The kernel's counters prove it.

Bytes read = received − still in the queue. Bytes written = acknowledged + still in the queue.
"""

import fcntl
import socket
import struct
import termios
from dataclasses import dataclass

_SIOCINQ = termios.FIONREAD
_SIOCOUTQ = termios.TIOCOUTQ
_ACKED_AND_RECEIVED = struct.Struct("=QQ")
_ACKED_AT = 120  # tcpi_bytes_acked, tcpi_bytes_received in struct tcp_info
_INFO_SIZE = _ACKED_AT + _ACKED_AND_RECEIVED.size
_QUEUED = struct.Struct("=i")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Proof:
    read: int
    written: int


def take(sock: socket.socket) -> Proof | None:
    """The counters now; None for Unix sockets, for which the kernel does not count."""
    for _ in range(_ATTEMPTS):
        before = _counters(sock)
        if before is None:
            return None
        unread, unsent = _queue(sock, _SIOCINQ), _queue(sock, _SIOCOUTQ)
        if _counters(sock) == before:
            return Proof(before[1] - unread, before[0] + unsent)
    return None  # data arrives faster than the calls run; without a proof the connection counts as touched


def untouched(sock: socket.socket, before: Proof | None) -> bool:
    return before is not None and take(sock) == before


def _counters(sock: socket.socket) -> tuple[int, int] | None:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except OSError:
        return None
    if len(info) < _INFO_SIZE:
        return None
    acked, received = _ACKED_AND_RECEIVED.unpack_from(info, _ACKED_AT)
    return acked, received


def _queue(sock: socket.socket, request: int) -> int:
    queued: int = _QUEUED.unpack(fcntl.ioctl(sock.fileno(), request, bytes(_QUEUED.size)))[0]
    return queued
