"""Which process has which role in the service, and every process that is not reaped yet."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.fdstore import FdStore
from aeterna.supervisor.processes.generation import Generation, LaunchSpec


class Roles:
    """Starts, adopts and reaps the processes of the service.

    The *serving* process has the service, the *successor* is to get it, the *retiring* process had it, and a *standby*
    is a successor that was started in advance. `by_number` also has processes that have lost their role.
    """

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        store: FdStore,
        metrics: Metrics,
        on_exit: Callable[[Generation], None],
    ) -> None:
        self.serving: Generation | None = None
        self.successor: Generation | None = None
        self.retiring: Generation | None = None
        self.standby: Generation | None = None
        self.by_number: dict[int, Generation] = {}
        self.last_number = 0
        self._loop = loop
        self._children = children
        self._store = store
        self._metrics = metrics
        self._on_exit = on_exit

    def spawn(
        self, spec: LaunchSpec, slot: int, lent: list[tuple[str, int]], extra: Mapping[str, str]
    ) -> Generation:  # fmt: skip
        """Start the next generation, without a role."""
        self.last_number += 1
        generation = Generation(self._loop, self._store, self.last_number, spec, slot)
        generation.start(self._children, lent, extra, lambda code: self._exited(generation, code))
        self.by_number[generation.number] = generation
        return generation

    def adopt(self, generation: Generation) -> None:
        """A process that an earlier image has started is the serving one."""
        self.serving = generation
        self.by_number[generation.number] = generation
        self._children.adopt(generation.pid, lambda code: self._exited(generation, code))

    def adopt_successor(self) -> None:
        """The successor becomes the serving process."""
        assert self.successor is not None
        self.serving, self.successor = self.successor, None
        self._metrics.generation.set(self.serving.number)

    def terminate(self, generation: Generation, number: int = signal.SIGTERM) -> None:
        """Ask the process to stop, and kill it when its drain deadline is over."""
        drain_s = generation.config.orchestration.drain_s
        generation.terminate(number, drain_s, lambda: self._metrics.drain_killed.add())

    def kill_serving(self) -> None:
        if self.serving is not None:
            self.serving.kill()

    def kill_retiring(self) -> None:
        if self.retiring is not None:
            self.retiring.kill()

    def kill_all(self) -> None:
        for generation in list(self.by_number.values()):
            generation.kill()

    def _exited(self, generation: Generation, code: int) -> None:
        log.info("exited", generation=generation.number, pid=generation.pid, code=code)
        generation.exited(code)
        self.by_number.pop(generation.number, None)
        self._on_exit(generation)
