"""The hosts of a DSN: each is tried by itself, with a connect limit of its own.

    postgresql://u:p@a:5432,b:5432,c:5432/aetheris      a is silent, b is a standby, c is the leader

The driver has one limit for all hosts together, and always begins with the first. A host that is silent (its machine is
frozen, or switched off) then uses up the limit of every attempt, and the leader behind it in the list is never reached.
Here an attempt begins with the host that answered last, and goes on to the next one as soon as a host is found wanting.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

# For a DSN that names one host, and for each host of a DSN that names several.
CONNECT_S = 5.0
HOST_CONNECT_S = 1.5

# A server whose machine vanished is given up after 5 + 3 * 3 seconds without an answer to a probe, and after 15
# seconds in which it acknowledged nothing of what was sent.
_SOCKET_OPTIONS: tuple[tuple[int, int, int], ...] = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000),
)

# What a host that cannot be used raises. Every error of the operating system means that it cannot be reached.
HOST_FAULTS: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,  # a standby, where the leader is wanted
)


@dataclass(frozen=True, slots=True)
class DatabaseHost:
    """One host of a DSN. Without a port the driver's default counts."""

    name: str
    port: int | None = None


class DatabaseHosts:
    """Where the database of one DSN may be, and which of its hosts is tried first."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._hosts = hosts_of(dsn)
        self._first = 0

    async def connect(self, **options: Any) -> Any:
        """A connection to the first host that can be used. Raises what the last one tried raised."""
        if len(self._hosts) < 2:
            return _kept_alive(await asyncpg.connect(self._dsn, timeout=CONNECT_S, **options))
        # The services write, so of several hosts they want the leader, unless the DSN says otherwise.
        if "target_session_attrs" not in parse_qs(urlsplit(self._dsn).query):
            options["target_session_attrs"] = "read-write"
        begin = self._first
        for distance in range(len(self._hosts)):
            place = (begin + distance) % len(self._hosts)
            host = self._hosts[place]
            try:
                found = await asyncpg.connect(
                    self._dsn, host=host.name, port=host.port, timeout=HOST_CONNECT_S, **options
                )
            except HOST_FAULTS:
                if distance == len(self._hosts) - 1:
                    self.leave()
                    raise
            else:
                self._first = place
                return _kept_alive(found)
        raise AssertionError("unreachable")

    def leave(self) -> None:
        """Begin the next attempt with another host: this one accepts connections and does not do its work."""
        if self._hosts:
            self._first = (self._first + 1) % len(self._hosts)


def hosts_of(dsn: str) -> Sequence[DatabaseHost]:
    """The hosts that a DSN names, in its order."""
    parsed = urlsplit(dsn)
    query = parse_qs(parsed.query)
    named = parsed.netloc.rpartition("@")[2] or "".join(query.get("host", ())[-1:])
    if not named:
        return ()
    found = [_host(each) for each in named.split(",")]
    ports = "".join(query.get("port", ())[-1:])
    if not ports:
        return found
    listed = [int(port) for port in ports.split(",")]
    return [DatabaseHost(host.name, listed[min(place, len(listed) - 1)]) for place, host in enumerate(found)]


def _host(text: str) -> DatabaseHost:
    text = unquote(text)
    if text.startswith("/"):
        return DatabaseHost(text)
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        name, _, port = text.partition(":")
    return DatabaseHost(name, int(port) if port else None)


def _kept_alive(connection: Any) -> Any:
    # The driver offers no public way to its socket.
    raw = connection._transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        for level, option, value in _SOCKET_OPTIONS:
            raw.setsockopt(level, option, value)
    return connection
