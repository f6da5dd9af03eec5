"""What is looked at before a successor is started: memory first, then the user's hooks, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aeterna.config.model import Hook
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.probes.checks import Attempt
from aeterna.supervisor.processes.child import Children

_CGROUP = Path("/sys/fs/cgroup")


class Hooks:
    """A row of hooks. The first that fails and blocks ends it."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
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
        self._attempt: Attempt | None = None

    def run(self) -> None:
        """The next one."""
        if not self._hooks:
            self._on_end(None)
            return
        hook = self._hooks.pop(0)

        def ended(passed: bool, said: str) -> None:
            self._attempt = None
            log.info("hook", hook=hook.name, passed=passed, said=said)
            if not passed:
                self._on_failure(hook.name)
                if hook.blocks:
                    self._on_end(f"hook {hook.name} failed: {said}")
                    return
            self.run()

        self._attempt = Attempt(self._loop, self._children, hook.timeout_s, ended)
        self._attempt.run(hook.command, self._env)

    def stop(self) -> None:
        """Kill the one that runs and forget the others."""
        if self._attempt is not None:
            self._attempt.cancel()
        self._hooks.clear()
        self._on_end = lambda _reason: None


def shortage(pid: int, headroom: float) -> str | None:
    """Why there is no room for a second process like `pid`, or None. For a while there will be two."""
    if headroom <= 0:
        return None
    needed = memory_of_group(pid) * headroom
    free = free_memory()
    if free is None or needed <= free:
        return None
    return f"memory: the successor may need {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free"


def memory_of_group(group: int) -> int:
    """Resident bytes of all processes in a process group."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[2]) == group:
                    total += int(stat[21]) * page
            except (OSError, IndexError, ValueError):
                continue  # it has gone in the meantime
    return total


def free_memory() -> int | None:
    """What this container may still take, or the machine where no limit is set."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
            # The kernel gives back the files it has merely cached when somebody needs the room.
            return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
