"""Which process gets new connections: the share of the successor, the way of a probe, the queue of the old process."""

from __future__ import annotations

import socket
from collections.abc import Callable

from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.processes.roles import Roles
from aeterna.supervisor.sockets.listeners import Listener, ListenerSet

_QUEUE_POLL_S = 0.01
# So many polls in a row must find the queue empty: handshakes that were under way have arrived by then.
_QUEUE_CALM = 5


class Traffic:
    """Divides new connections on steered listeners between the serving process and its successor."""

    def __init__(
        self, loop: Loop, listeners: ListenerSet, roles: Roles, metrics: Metrics, on_queue_empty: Callable[[], None]
    ) -> None:
        self.fraction = 0.0
        self._loop = loop
        self._listeners = listeners
        self._roles = roles
        self._metrics = metrics
        self._on_queue_empty = on_queue_empty
        self._poll: Timer | None = None

    def steer(self, fraction: float) -> None:
        """Send this share of new connections to the successor and the rest to the serving process."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        self.fraction = fraction if self._roles.successor else 0.0
        self._metrics.canary_fraction.set(self.fraction)
        if self._roles.serving is not None:
            slot = self._roles.serving.slot
            for listener in self._listeners.all():
                listener.steer(self.fraction, slot, 1 - slot)

    def to_serving(self) -> None:
        """All new connections to the serving process."""
        self.steer(0.0)

    def to_successor(self) -> None:
        """All new connections to the successor; call back when the old process has emptied its queue."""
        self.steer(1.0)
        self._await_empty_queue(_QUEUE_CALM)

    def probe_socket(self, generation: Generation, host: str, port: int) -> socket.socket | None:
        """See `probes.watch.ProbeRoutes`."""
        serving = self._roles.serving
        if serving is None or generation is not self._roles.successor:
            return None
        for listener in self._listeners.all():
            if listener.steered and listener.bound().port == port:
                source = socket.socket(socket.AF_INET6 if host not in ("::",) and ":" in host else socket.AF_INET)
                source.bind(("::1" if source.family == socket.AF_INET6 else "127.0.0.1", 0))
                listener.steer(self.fraction, serving.slot, generation.slot, source.getsockname()[1])
                return source
        return None

    def stranded(self) -> int:
        """Connections in the queues of the slot that no process has: its process died or was killed."""
        serving = self._roles.serving
        if serving is None:
            return 0
        return sum(listener.waiting(1 - serving.slot) for listener in self._steered())

    def _await_empty_queue(self, calm: int) -> None:
        serving = self._roles.serving
        if serving is None:
            return
        steered = self._steered()
        if not steered or calm == 0:
            self._on_queue_empty()
            return
        empty = not any(listener.waiting(serving.slot) for listener in steered)
        left = calm - 1 if empty else _QUEUE_CALM
        self._poll = self._loop.call_later(_QUEUE_POLL_S, lambda: self._await_empty_queue(left))

    def _steered(self) -> list[Listener]:
        return [listener for listener in self._listeners.all() if listener.steered]
