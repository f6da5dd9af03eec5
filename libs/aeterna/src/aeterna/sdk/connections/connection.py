"""One established connection that goes from a process to its successor."""

import base64
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aeterna.sdk.connections import proof
from aeterna.sdk.connections.proof import Proof
from aeterna.srp.wire.frames import FDS_MAX, PAYLOAD_MAX
from aeterna.table.reasons import Breach, Reason

_ITEMS_MAX = PAYLOAD_MAX - 4096  # leaves room for the rest of the message


@dataclass(slots=True, eq=False)
class Connection:
    """`app` is JSON that the application gets back; `unread` are bytes that were read and not consumed.

    The giver creates it only when it has stopped reading and its own write buffer is empty.
    """

    sock: socket.socket
    app: Any = None
    unread: bytes = b""
    proof: Proof | None = field(default=None)

    def freeze(self) -> None:
        """Note how many bytes have been read and written."""
        self.proof = proof.take(self.sock)

    @property
    def untouched(self) -> bool:
        """True if no process has read or written since `freeze`."""
        return proof.untouched(self.sock, self.proof)


def encode(connections: Sequence[Connection]) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """Batches that fit into a frame: the items and their descriptors, which the caller then owns."""
    for at in range(0, len(connections), FDS_MAX):
        yield from _batches(connections[at : at + FDS_MAX], at)


def _batches(connections: Sequence[Connection], first: int) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """One batch, or halves of it if it is too large: encoding all items at once is cheaper than encoding each."""
    items = [
        {"id": number, "app": each.app, "unread": base64.b64encode(each.unread).decode()}
        for number, each in enumerate(connections, first)
    ]
    weight = len(json.dumps(items, separators=(",", ":"), allow_nan=False))
    if weight <= _ITEMS_MAX:
        yield items, [os.dup(each.sock.fileno()) for each in connections]
        return
    half = len(connections) // 2
    if half == 0:
        raise Breach(Reason.OVERSIZED, f"a connection carries {weight} bytes, allowed are {_ITEMS_MAX}")
    yield from _batches(connections[:half], first)
    yield from _batches(connections[half:], first + half)


def decode(items: Sequence[dict[str, Any]], fds: Sequence[int]) -> list[Connection]:
    """The connections of one message. They own the descriptors."""
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
