"""Programs of the configuration that run before or after an upgrade, one after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from aeterna.config.model import Hook
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.timed import TimedProcess


class Hooks:
    """A list of hooks. The first hook that fails and blocks ends it; `on_end` gets the reason, or None."""

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        hooks: Sequence[Hook],
        env: Mapping[str, str],
        on_end: Callable[[str | None], None],
        on_failure: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._loop = loop
        self._children = children
        self._hooks = list(hooks)
        self._env = {**os.environ, **env}
        self._on_end = on_end
        self._on_failure = on_failure
        self._running: TimedProcess | None = None

    def run(self) -> None:
        """Run the next hook, and after it the others."""
        if not self._hooks:
            self._on_end(None)
            return
        hook = self._hooks.pop(0)

        def ended(passed: bool, said: str) -> None:
            self._running = None
            log.info("hook", hook=hook.name, passed=passed, said=said)
            if not passed:
                self._on_failure(hook.name)
                if hook.blocks:
                    self._on_end(f"hook {hook.name} failed: {said}")
                    return
            self.run()

        self._running = TimedProcess(self._loop, self._children, hook.timeout_s, ended)
        self._running.run(hook.command, self._env)

    def stop(self) -> None:
        """Kill the hook that runs and drop the others."""
        if self._running is not None:
            self._running.cancel()
        self._hooks.clear()
        self._on_end = lambda _reason: None
