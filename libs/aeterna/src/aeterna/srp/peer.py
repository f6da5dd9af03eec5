"""A connected process, as the broker sees it, whichever version of the protocol it speaks."""

from collections.abc import Callable, Sequence
from typing import Protocol

from aeterna.srp.wire.messages import HelloMessage, Message
from aeterna.table.reasons import Breach

PENDING_MAX = 1024 * 1024


class BrokerTimer(Protocol):
    """A callback that is scheduled and can be cancelled."""

    def cancel(self) -> None: ...


class BrokerLoop(Protocol):
    """The methods of PID 1's event loop that the broker uses."""

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_reader(self, fd: int) -> None: ...
    def add_writer(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_writer(self, fd: int) -> None: ...
    def call_later(self, seconds: float, callback: Callable[[], None]) -> BrokerTimer: ...


class PeerHandler(Protocol):
    """The broker, as a peer sees it: it is called with what the peer sends."""

    def heard(self, peer: "Peer", message: Message, fds: list[int], size: int) -> None:
        """A message has come. The handler owns the descriptors from now on. Raising Breach ends the connection."""

    def left(self, peer: "Peer") -> None:
        """The connection has ended."""

    def drained(self, peer: "Peer") -> None:
        """The peer reads again, after more than PENDING_MAX bytes were pending."""

    def refused(self, peer: "Peer", breach: Breach) -> None:
        """The peer broke the protocol; its connection is about to be closed."""


class Peer(Protocol):
    """One connected process, of either version."""

    generation: int
    hello: HelloMessage

    @property
    def pending(self) -> int: ...
    def send(self, message: Message, fds: Sequence[int] = ()) -> None: ...
    def pause(self, paused: bool) -> None: ...
    def close(self) -> None: ...
