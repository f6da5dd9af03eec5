"""Inherited listeners as sockets."""

import os
import socket

from aeterna.sdk.environment import Environment


def inherited(environment: Environment) -> dict[str, list[socket.socket]]:
    """By name, in the order of their descriptors. The sockets share what they listen on with every generation, so
    closing one is harmless and shutting one down is not."""
    found: dict[str, list[socket.socket]] = {}
    for fd, name in zip(environment.fds, environment.names, strict=True):
        try:
            # The family and the protocol come from the kernel: a guess gives wrong peer addresses.
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        os.set_inheritable(fd, False)
        _quicken(sock)
        found.setdefault(name, []).append(sock)
    return found


def _quicken(sock: socket.socket) -> None:
    """Connections inherit TCP_NODELAY from their listener, and not every server sets it on them."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
