"""One established connection on its way from a process to the next."""

import base64
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aeterna.sdk import proof
from aeterna.sdk.proof import Proof
from aeterna.srp.reasons import Breach, Reason
from aeterna.srp.wire import FDS_MAX, PAYLOAD_MAX

_ITEMS_MAX = PAYLOAD_MAX - 4096  # leaves room for what is around the items


@dataclass(slots=True, eq=False)
class Connection:
    """`app` is what the application wants back; `unread` are bytes that were read and not consumed.

    The giver makes one only when it has stopped reading and its own write buffer is empty.
    """

    sock: socket.socket
    app: Any = None
    unread: bytes = b""
    proof: Proof | None = field(default=None)

    def freeze(self) -> None:
        """Note how far the stream is."""
        self.proof = proof.take(self.sock)

    @property
    def untouched(self) -> bool:
        """Nobody has read or written since `freeze`."""
        return proof.untouched(self.sock, self.proof)


def encode(connections: Sequence[Connection]) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """Batches that fit into a frame: the items, and descriptors that belong to whoever takes them."""
    items: list[dict[str, Any]] = []
    socks: list[socket.socket] = []
    size = 0
    for number, connection in enumerate(connections):
        item: dict[str, Any] = {
            "id": number,
            "app": connection.app,
            "unread": base64.b64encode(connection.unread).decode(),
        }
        weight = _weight(connection.app, item["unread"])
        if weight > _ITEMS_MAX:
            raise Breach(Reason.OVERSIZED, f"a connection carries {weight} bytes, allowed are {_ITEMS_MAX}")
        if items and (len(items) == FDS_MAX or size + weight > _ITEMS_MAX):
            yield items, [os.dup(sock.fileno()) for sock in socks]
            items, socks, size = [], [], 0
        items.append(item)
        socks.append(connection.sock)
        size += weight
    if items:
        yield items, [os.dup(sock.fileno()) for sock in socks]


def decode(items: Sequence[dict[str, Any]], fds: Sequence[int]) -> list[Connection]:
    """The descriptors belong to the connections."""
    found = [socket.socket(fileno=fd) for fd in fds]
    try:
        return [
            Connection(sock, item.get("app"), base64.b64decode(item.get("unread", ""), validate=True))
            for item, sock in zip(items, found, strict=True)
        ]
    except (ValueError, TypeError) as broken:
        for sock in found:
            sock.close()
        raise Breach(Reason.CORRUPT, "a connection's unread bytes are not base64") from broken


def _weight(app: Any, unread: str) -> int:
    """At least as much as the item takes in its frame."""
    return len(json.dumps(app, separators=(",", ":"), allow_nan=False)) + len(unread) + 64
