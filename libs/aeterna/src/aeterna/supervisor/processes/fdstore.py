"""Descriptors that a process has left for the processes after it (FDSTORE=1, as with systemd)."""

from __future__ import annotations

import os
import stat
from typing import Any

from aeterna.supervisor import log


class FdStore:
    """Pairs of name and descriptor, in the order of arrival. A name may have several descriptors."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[str, int]] = []

    def put(self, name: str, fds: tuple[int, ...]) -> None:
        """Keep the descriptors. Duplicates, and descriptors beyond the limit, are closed."""
        for fd in fds:
            if len(self._held) >= self._most or not _name_is_fit(name):
                log.warn("a descriptor was not stored", name=name, held=len(self._held))
                os.close(fd)
            elif any(held == name and _same(other, fd) for held, other in self._held):
                os.close(fd)
            else:
                self._held.append((name, fd))

    def remove(self, name: str) -> None:
        """Close all descriptors with this name."""
        for held, fd in self._held:
            if held == name:
                os.close(fd)
        self._held = [pair for pair in self._held if pair[0] != name]

    def all(self) -> list[tuple[str, int]]:
        """All of them; a process gets them after its listeners."""
        return list(self._held)

    def keep(self) -> list[Any]:
        """The state for the next image."""
        return [list(pair) for pair in self._held]

    def resume(self, kept: list[Any]) -> None:
        """Take the state that `keep` gave in the image before."""
        for name, fd in kept:
            os.set_inheritable(fd, False)
            self._held.append((str(name), int(fd)))


def _name_is_fit(name: str) -> bool:
    return 0 < len(name) <= 255 and all(" " < c <= "~" and c != ":" for c in name)


def _same(one: int, other: int) -> bool:
    a, b = os.fstat(one), os.fstat(other)
    # Every memfd and every socket has an inode of its own. Epoll instances and the like share one and are never equal.
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) and stat.S_IFMT(a.st_mode) != 0
