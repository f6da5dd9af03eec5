"""The steps before a successor is started: read the configuration, open its listeners, check memory, run the
hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aeterna.config.field import ConfigError
from aeterna.config.model import Config
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.generation import LaunchSpec
from aeterna.supervisor.processes.roles import Roles
from aeterna.supervisor.sockets.listeners import ListenError, ListenerSet
from aeterna.supervisor.upgrade.hooks import Hooks
from aeterna.supervisor.upgrade.memory import shortage
from aeterna.supervisor.upgrade.outcome import Upgrades


@dataclass
class LaunchSpecs:
    """The configurations that the service is started from: now, after the upgrade under way, and after a rollback."""

    current: LaunchSpec
    target: LaunchSpec | None = None
    previous: LaunchSpec | None = None
    use_previous: bool = False  # the next pre-flight is for `previous`
    sweeping: bool = False  # the next pre-flight is for `current`, without reading the configuration


class Preflight:
    """`limit_known` is called when the hooks, and so the time limit, are known; `on_end` gets whether all passed."""

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        roles: Roles,
        specs: LaunchSpecs,
        listeners: ListenerSet,
        upgrades: Upgrades,
        metrics: Metrics,
        *,
        reread: Callable[[], LaunchSpec],
        limit_known: Callable[[], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._roles = roles
        self._specs = specs
        self._listeners = listeners
        self._upgrades = upgrades
        self._metrics = metrics
        self._reread = reread
        self._limit_known = limit_known
        self._on_end = on_end
        self._hooks: Hooks | None = None

    def choose_previous(self) -> None:
        """Let the next run be for the configuration before the present one."""
        self._specs.use_previous = True

    def run(self) -> None:
        """Begin an upgrade. The result comes as a call of `on_end`."""
        serving, specs = self._roles.serving, self._specs
        assert serving is not None
        self._upgrades.begin(self._loop.now())
        try:
            target = specs.target = self._next()
            self._listeners.open(target.config.listeners)
            for name in fixed(specs.current.config, target.config):
                log.warn("a reload does not change this key: restart the supervisor for it", key=name)
        except (ConfigError, ListenError) as problem:
            self._end("config" if isinstance(problem, ConfigError) else "listen", str(problem))
            return
        finally:
            specs.use_previous = False
        lack = shortage(serving.pid, target.config.limits.memory_headroom)
        if lack is not None:
            self._metrics.preflight_failures.add(label="memory")
            self._end("preflight", lack)
            return
        self._limit_known()
        self._hooks = Hooks(
            self._loop,
            self._children,
            target.config.orchestration.preflight,
            dict(target.config.service.env),
            lambda reason: self._end("preflight", reason),
            lambda name: self._metrics.preflight_failures.add(label=name),
        )
        self._hooks.run()

    def stop(self) -> None:
        """Kill the hook that runs; `on_end` is not called."""
        if self._hooks is not None:
            self._hooks.stop()
            self._hooks = None

    def _next(self) -> LaunchSpec:
        specs = self._specs
        if specs.use_previous and specs.previous is not None:
            return specs.previous
        return specs.current if specs.sweeping else self._reread()

    def _end(self, kind: str, reason: str | None) -> None:
        self._hooks = None
        if reason is not None:
            self._upgrades.fail(kind, reason)
        self._on_end(reason is None)


def fixed(now: Config, wanted: Config) -> list[str]:
    """Keys that differ and cannot be changed while the supervisor runs."""
    was, will = now.orchestration.state_handoff, wanted.orchestration.state_handoff
    pairs = {
        "service.name": (now.service.name, wanted.service.name),
        "control.socket_path": (now.control_path, wanted.control_path),
        "observability.metrics_port": (now.observability.metrics, wanted.observability.metrics),
        "orchestration.state_handoff.enabled": (was.enabled, will.enabled),
        "orchestration.state_handoff.socket_path": (was.socket_path, will.socket_path),
    }
    return [name for name, (before, after) in pairs.items() if before != after]
