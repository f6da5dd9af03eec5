"""The sockets that outlive every process: the supervisor opens them once and lends them to each generation."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aeterna.config.model import ListenerSpec
from aeterna.supervisor import log
from aeterna.supervisor.sockets import steering
from aeterna.table.addresses import ListenAddress, difference, identity

_UNACKED = 24  # offset of tcpi_unacked in struct tcp_info: on a listener, the connections that wait to be accepted


class ListenError(Exception):
    """A socket cannot be opened."""


@dataclass
class Listener:
    """One address. A steered listener has two sockets, and each generation is given one of them."""

    spec: ListenerSpec
    sockets: list[socket.socket]
    healthy: bool = True
    heals: int = 0
    # The kernel numbers the members of a group by when they began to listen: slots, in that order.
    order: list[int] = field(default_factory=lambda: [0, 1])
    steering: tuple[float, int, int, int] = (0.0, 0, 1, 0)

    @property
    def steered(self) -> bool:
        """Can new connections be divided between two processes?"""
        return len(self.sockets) == 2

    def fd(self, slot: int) -> int:
        """The descriptor for the generation in `slot`."""
        return self.sockets[slot % len(self.sockets)].fileno()

    def bound(self) -> ListenAddress:
        """The address it listens on, with the real port instead of 0."""
        if self.spec.address.kind == "unix":
            return self.spec.address
        return replace(self.spec.address, port=int(self.sockets[0].getsockname()[1]))

    def waiting(self, slot: int | None = None) -> int:
        """Connections that wait to be accepted, in one slot or in both."""
        if self.spec.address.kind != "tcp":
            return 0
        chosen = self.sockets if slot is None else [self.sockets[slot % len(self.sockets)]]
        infos = [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104) for s in chosen]
        return sum(struct.unpack_from("I", info, _UNACKED)[0] for info in infos)

    def steer(self, fraction: float, old: int, new: int, probe_port: int = 0) -> None:
        """Send this fraction of new connections to slot `new`, and those from `probe_port` too."""
        if self.steered:
            self.steering = (fraction, old, new, probe_port)
            indices = self.order.index(old % 2), self.order.index(new % 2)
            steering.attach(self.sockets[0], steering.program(fraction, *indices, probe_port))

    def heal(self) -> None:
        """A process has called shutdown(), which stops the socket for all its holders. Listen again, on the same
        port."""
        for slot, held in enumerate(self.sockets):
            if self.spec.address.kind == "tcp" and not held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                held.listen(self.spec.backlog)
                self.heals += 1
                log.warn("a listener was shut down by a process that held it; healed", listener=self.spec.name)
                # The kernel removed it from its group and has added it again as the last member.
                self.order.remove(slot)
                self.order.append(slot)
            elif self.spec.address.kind != "tcp" and self.healthy:
                self.healthy = False
                log.error("a listener was shut down by a process that held it", listener=self.spec.name)
        self.steer(*self.steering)

    def restore_path(self) -> None:
        """If the file of a Unix socket was removed, link it again: the supervisor keeps a second name for it."""
        path = self.spec.address.host
        if self.spec.address.kind != "unix" or path.startswith("@"):
            return
        try:
            os.link(_second_name(path), path)
        except OSError:
            return  # the file is still there, or cannot be restored
        self.heals += 1
        log.warn("the file of a listener was removed; restored", listener=self.spec.name)

    def close(self) -> None:
        """Close the sockets and remove the files."""
        path = self.spec.address.host
        for held in self.sockets:
            held.close()
        if self.spec.address.kind == "unix" and path.startswith("/"):
            for name in (path, _second_name(path)):
                try:
                    Path(name).unlink()
                except OSError:
                    continue


class ListenerSet:
    """All listeners, by identity. A configuration says under which names a generation gets them."""

    def __init__(self) -> None:
        self._all: dict[str, Listener] = {}
        # A socket that is registered for no event still reports a hang-up, which is how a shutdown() is noticed.
        self.guard = select.epoll()

    def all(self) -> list[Listener]:
        """In the order in which they were opened."""
        return list(self._all.values())

    def open(self, specs: Iterable[ListenerSpec]) -> list[str]:
        """Open the listeners that are missing, all or none, and return their identities. ListenError if one fails."""
        wanted = {identity(spec.name, spec.address): spec for spec in specs}
        change = difference(self._all.keys(), wanted.keys())
        for key in change.kept:
            if self._all[key].spec.sharing != wanted[key].sharing:
                raise ListenError(
                    f"{wanted[key].address} is {self._all[key].spec.sharing}; that cannot be changed by a reload"
                )
        opened: list[str] = []
        try:
            for key, spec in wanted.items():
                if key in change.opened:
                    self._add(key, Listener(spec, _open(spec)))
                    opened.append(key)
        except OSError as problem:
            self.close(opened)
            raise ListenError(f"cannot listen on {spec.address}: {problem.strerror or problem}") from problem
        return opened

    def keep_only(self, specs: Iterable[ListenerSpec]) -> None:
        """Close listeners that are not in `specs`."""
        wanted = {identity(spec.name, spec.address) for spec in specs}
        self.close(difference(self._all.keys(), wanted).closed)

    def close(self, keys: Iterable[str]) -> None:
        """Close the listeners with these identities."""
        for key in list(keys):
            listener = self._all.pop(key)
            for held in listener.sockets:
                self.guard.unregister(held.fileno())
            listener.close()

    def close_all(self) -> None:
        """Close everything, at the end of the supervisor."""
        self.close(list(self._all))

    def of(self, specs: Iterable[ListenerSpec], slot: int) -> list[tuple[str, int]]:
        """Names and descriptors for a process in `slot`."""
        lent = []
        for spec in specs:
            listener = self._all[identity(spec.name, spec.address)]
            # O_NONBLOCK belongs to the socket, not to the process: an earlier process may have changed it.
            os.set_blocking(listener.fd(slot), False)
            listener.restore_path()
            lent.append((spec.name, listener.fd(slot)))
        return lent

    def check(self) -> None:
        """The guard has reported a hang-up: repair the listeners that were shut down."""
        self.guard.poll(0)
        for listener in self._all.values():
            listener.heal()
            if not listener.healthy:
                for held in listener.sockets:
                    self._quiet(held.fileno())

    def keep(self) -> dict[str, Any]:
        """The state for the next image."""
        return {
            key: {"fds": [s.fileno() for s in listener.sockets], "order": listener.order, "steering": listener.steering}
            for key, listener in self._all.items()
        }

    @staticmethod
    def resumed(kept: Mapping[str, Any], specs: Iterable[ListenerSpec]) -> ListenerSet:
        """The listeners that `keep` described, in the next image. Sockets that are not in `specs` are closed."""
        listeners = ListenerSet()
        wanted = {identity(spec.name, spec.address): spec for spec in specs}
        for key, facts in kept.items():
            sockets = [socket.socket(fileno=fd) for fd in facts["fds"]]
            for held in sockets:
                held.set_inheritable(False)
            if key in wanted:
                fraction, old, new, probe_port = facts["steering"]
                steered = (float(fraction), int(old), int(new), int(probe_port))
                listeners._add(key, Listener(wanted[key], sockets, order=list(facts["order"]), steering=steered))
            else:
                for held in sockets:
                    held.close()
        return listeners

    def _add(self, key: str, listener: Listener) -> None:
        self._all[key] = listener
        for held in listener.sockets:
            self.guard.register(held.fileno(), 0)

    def _quiet(self, fd: int) -> None:
        try:
            self.guard.unregister(fd)
            self.guard.register(fd, select.EPOLLET)
        except OSError:
            pass


def _open(spec: ListenerSpec) -> list[socket.socket]:
    address = spec.address
    if address.kind == "unix":
        return [_open_unix(spec)]
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    host = address.host
    if host == "::" and not _has_ipv6():
        family, host = socket.AF_INET, "0.0.0.0"
    if address.port:
        return _open_internet(spec, family, host, address.port)
    # After a shutdown(), listen() on a port that the kernel chose would get another port, so bind an explicit one.
    for _ in range(20):
        with socket.socket(family, socket.SOCK_STREAM if address.kind == "tcp" else socket.SOCK_DGRAM) as scout:
            scout.bind((host, 0))
            port = int(scout.getsockname()[1])
        try:
            return _open_internet(spec, family, host, port)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free")


def _open_internet(spec: ListenerSpec, family: socket.AddressFamily, host: str, port: int) -> list[socket.socket]:
    tcp = spec.address.kind == "tcp"
    opened: list[socket.socket] = []
    try:
        for _ in range(2 if spec.sharing == "steered" else 1):
            held = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
            opened.append(held)
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if tcp:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Connections inherit the option from their listener. Without it, small answers wait for
                # acknowledgements.
                held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if spec.sharing == "steered":
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.setblocking(False)
            held.bind((host, port))
        for held in opened if tcp else []:
            held.listen(spec.backlog)
        if spec.sharing == "steered":
            steering.attach(opened[0], steering.program(0.0, 0, 1))
    except OSError:
        for held in opened:
            held.close()
        raise
    return opened


def _open_unix(spec: ListenerSpec) -> socket.socket:
    path = spec.address.host
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.setblocking(False)
        if path.startswith("@"):
            held.bind("\0" + path[1:])
        else:
            _remove_stale(path)
            before = os.umask(
                0o777 & ~spec.mode
            )  # the mode holds from the first moment on; a chmod would come too late
            try:
                held.bind(path)
            finally:
                os.umask(before)
            _give_second_name(path)
        held.listen(spec.backlog)
    except OSError:
        held.close()
        raise
    return held


def _remove_stale(path: str) -> None:
    """Remove a socket file on which no process listens. OSError if a process does, or if it is another kind of file."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _second_name(path: str) -> str:
    directory, _, name = path.rpartition("/")
    return f"{directory}/.{name}.aeterna"


def _give_second_name(path: str) -> None:
    try:
        if os.path.lexists(_second_name(path)):
            Path(_second_name(path)).unlink()
        os.link(path, _second_name(path))
    except OSError as problem:
        log.debug("a socket has no second name", path=path, problem=str(problem))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as scout:
            scout.bind(("::", 0))
    except OSError:
        return False
    return True
