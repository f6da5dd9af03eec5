"""Inherited listeners as sockets. It stands alone because servers without a state hand-over use it too."""

import os
import socket

from aeterna.sdk.environment import Environment


def inherited(environment: Environment) -> dict[str, list[socket.socket]]:
    """The listeners by name, in the order of their descriptors. All generations share the kernel's socket: close()
    affects only this process, shutdown() affects all."""
    found: dict[str, list[socket.socket]] = {}
    for fd, name in zip(environment.fds, environment.names, strict=True):
        try:
            # Python reads family and protocol from the kernel. With a guessed family, peer addresses would be wrong.
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        os.set_inheritable(fd, False)
        _set_no_delay(sock)
        found.setdefault(name, []).append(sock)
    return found


def _set_no_delay(sock: socket.socket) -> None:
    """Connections inherit TCP_NODELAY from their listener; some servers do not set it on connections."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
