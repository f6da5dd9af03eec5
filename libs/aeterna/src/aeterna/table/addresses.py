"""Which addresses mean the same socket, and which sockets a new configuration adds and removes."""

from __future__ import annotations

import ipaddress
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

Kind = Literal["tcp", "udp", "unix"]


@dataclass(frozen=True, order=True)
class ListenAddress:
    """One place to listen. `host` is an IP address, or the path of a Unix socket (`@name` is abstract)."""

    kind: Kind
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


class BadAddress(ValueError):
    """The text is not an address."""


def parse(text: str) -> ListenAddress:
    """`:8080`, `8080`, `host:8080`, `tcp://[::1]:8080`, `udp://…`, `unix:/path`, `/path`, `@abstract`.

    `localhost` is 127.0.0.1, as in every hosts file. Other names are refused: the address behind
    a name can change between two reloads, and the listener would move without a change of the configuration.
    """
    text = text.strip()
    for prefix in ("unix://", "unix:"):
        if text.startswith(prefix):
            return _unix(text[len(prefix) :])
    if text.startswith(("/", "@")):
        return _unix(text)
    kind: Kind = "tcp"
    if text.startswith("udp://"):
        kind, text = "udp", text[6:]
    elif text.startswith("tcp://"):
        text = text[6:]
    elif "://" in text:
        raise BadAddress(f"{text!r}: only tcp, udp and unix sockets can be listened on")
    return _internet(kind, text)


def _unix(path: str) -> ListenAddress:
    if not path.startswith(("/", "@")) or len(path) < 2:
        raise BadAddress(f"{path!r} is neither an absolute path nor an @abstract name")
    if len(path.encode()) > 107:
        raise BadAddress(f"{path!r} is longer than the 107 bytes a Unix socket's name may have")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/"):
        if ".." in parts:
            raise BadAddress(f"{path!r} contains '..'")
        path = "/" + "/".join(parts)
    return ListenAddress("unix", path)


def _internet(kind: Kind, text: str) -> ListenAddress:
    host, colon, digits = text.rpartition(":")
    if not colon:
        host, digits = "", text
    if not (digits.isascii() and digits.isdigit()) or int(digits) > 65535:
        raise BadAddress(f"{text!r} has no port between 0 and 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host in ("", "*"):
        host = "::"
    elif host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError as problem:
        raise BadAddress(f"{host!r} is not an IP address") from problem
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return ListenAddress(kind, str(address), int(digits))


def identity(name: str, address: ListenAddress) -> str:
    """Two listeners with equal identities are one. Port 0 means any free port, so the name is part of the identity."""
    return f"{address} {name}" if address.kind != "unix" and address.port == 0 else str(address)


@dataclass(frozen=True)
class Difference:
    """Identities of the listeners to open, to keep and to close."""

    opened: frozenset[str]
    kept: frozenset[str]
    closed: frozenset[str]


def difference(now: Set[str], wanted: Set[str]) -> Difference:
    """The change from one set of identities to another."""
    return Difference(frozenset(wanted - now), frozenset(wanted & now), frozenset(now - wanted))
