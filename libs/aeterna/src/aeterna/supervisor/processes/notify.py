"""The notify socket: a process reports its own state in the protocol of systemd (sd_notify)."""

from __future__ import annotations

import array
import os
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from aeterna.supervisor.loop import Loop

_DATAGRAM_MAX = 4096
_FDS_MAX = 64


@dataclass(frozen=True)
class NotifyDatagram:
    """One datagram: its lines and its descriptors, which the reader owns."""

    lines: dict[str, str]
    fds: tuple[int, ...]


class NotifySocket:
    """One socket for each generation, so that no process can speak for another by mistake. Its name is abstract: it
    needs no directory."""

    def __init__(self, loop: Loop, on_notice: Callable[[NotifyDatagram], None], fd: int | None = None) -> None:
        self._loop = loop
        self._on_notice = on_notice
        if fd is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # Any process in the same network namespace could write to it, so the name is secret.
            self._socket.bind(f"\0aeterna-notify-{os.getpid()}-{secrets.token_hex(16)}")
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        else:
            self._socket = socket.socket(fileno=fd)
            self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._read)

    @property
    def name(self) -> str:
        """For NOTIFY_SOCKET."""
        return "@" + str(self._socket.getsockname()[1:].decode())

    def fileno(self) -> int:
        """To be kept over a re-exec."""
        return self._socket.fileno()

    def close(self) -> None:
        """Its process has exited."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        room = socket.CMSG_SPACE(_FDS_MAX * 4) + socket.CMSG_SPACE(12)
        for _ in range(16):
            try:
                data, ancillary, _flags, _ = self._socket.recvmsg(_DATAGRAM_MAX, room, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, OSError):
                return
            fds, uid = _parts(ancillary)
            if uid not in (0, os.geteuid()):
                for fd in fds:
                    os.close(fd)
                continue
            lines = dict(line.partition("=")[::2] for line in data.decode(errors="replace").splitlines())
            self._on_notice(NotifyDatagram(lines, fds))


def _parts(ancillary: list[tuple[int, int, bytes]]) -> tuple[tuple[int, ...], int]:
    fds = array.array("i")
    uid = -1
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif kind == socket.SCM_CREDENTIALS:
            _, uid, _ = struct.unpack("iii", data)
    return tuple(fds), uid
