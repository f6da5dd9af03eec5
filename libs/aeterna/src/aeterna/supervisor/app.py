"""The whole graph of PID 1, built by hand in one place: `run` is `aeterna start`."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from aeterna.config.field import ConfigError
from aeterna.supervisor import log, reexec
from aeterna.supervisor.control import status
from aeterna.supervisor.control.commands import ControlCommands
from aeterna.supervisor.control.control_socket import ControlSocket, listen
from aeterna.supervisor.control.web import Web
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.processes.child import ChildProcesses, signal_one
from aeterna.supervisor.processes.generation import LaunchSpec
from aeterna.supervisor.sockets.listeners import ListenError, ListenerSet
from aeterna.supervisor.upgrade.service import Service
from aeterna.table.service import ServiceEvent

_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
# Not forwarded: signals of a fault in the supervisor itself, signals that cannot be caught, and signals that the
# supervisor handles.
_OURS = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGHUP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
    signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGTSTP, *_STOPS,
}  # fmt: skip
_PORT_PATIENCE_S = 5.0
_PORT_AGAIN_S = 0.25


class SupervisorProcess:
    """One service, its control socket and its HTTP page. After a re-exec, `kept` is the state of the image before."""

    def __init__(self, file: str, settings: tuple[str, ...], kept: dict[str, Any] | None) -> None:
        self._file = file
        self._settings = settings
        self._exit_code = 0
        spec = self._spec(kept["release"]) if kept else self._read()
        config = spec.config
        log.set_level(config.observability.log_level)
        for warning in config.warnings:
            log.warn(warning)
        _name_process()
        self._loop = Loop()
        self._children = ChildProcesses(orphans=int(kept["orphans"]) if kept else 0)
        self._take_signals()
        control = socket.socket(fileno=kept["control"]) if kept else listen(config.control_path)
        listeners = (
            ListenerSet.resumed(kept["listeners"], config.listeners) if kept else self._open(ListenerSet(), spec)
        )
        if kept:
            listeners.open(config.listeners)
        self._service = Service(
            self._loop,
            self._children,
            spec,
            listeners,
            reread=self._read,
            on_stopped=self._stopped,
            kept=kept,
        )
        replace = reexec.Reexec(
            self._loop, self._children, self._service, file=file, settings=settings, keep=self._keep
        )  # fmt: skip
        commands = ControlCommands(
            self._service,
            metrics_port=lambda: self._web.port if self._web else None,
            reexec=replace.start,
            stop=lambda: self._stop(signal.SIGTERM),
        )
        self._control = ControlSocket(self._loop, control, config.control_path, commands.handle)
        # After a re-exec there is a page if there was one before.
        paged = kept["web"] is not None if kept else bool(config.observability.metrics)
        self._web = self._open_web(commands, config.observability.metrics, kept) if paged else None
        if kept:
            self._service.resume(kept, self._spec)
            serving = self._service.roles.serving
            log.info("resumed", generation=serving.number if serving else 0, pid=serving.pid if serving else 0)
            self._service.keep_standby()
        else:
            self._service.happen(ServiceEvent.START)

    def run(self) -> int:
        """Run until the service has ended; return its exit code."""
        # Children that died between two images, or before the first SIGCHLD could be caught, raise no further signal.
        self._children.reap()
        self._loop.run()
        self._service.handover.relay.close()
        self._service.listeners.close_all()
        self._control.close()
        if self._web is not None:
            self._web.close()
        return self._exit_code

    # ── the configuration and the sockets ──

    def _read(self) -> LaunchSpec:
        try:
            text = Path(self._file).read_text()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"{self._file}: {problem}") from problem
        return LaunchSpec.of(text, self._file, self._settings)

    def _spec(self, kept: dict[str, Any]) -> LaunchSpec:
        return LaunchSpec.of(kept["text"], self._file, tuple(kept["settings"]))

    def _open(self, listeners: ListenerSet, spec: LaunchSpec) -> ListenerSet:
        """Open the listeners. The processes of a supervisor that was killed may hold the same port for a while."""
        deadline = self._loop.now() + _PORT_PATIENCE_S
        while True:
            try:
                listeners.open(spec.config.listeners)
                return listeners
            except ListenError as problem:
                if self._loop.now() > deadline:
                    raise
                log.warn("waiting for an address", problem=str(problem))
                time.sleep(_PORT_AGAIN_S)

    def _open_web(self, commands: ControlCommands, address: str, kept: dict[str, Any] | None) -> Web | None:
        fd = int(kept["web"]) if kept else None
        try:
            return Web(self._loop, address, lambda: status.metrics(self._service), commands.status, fd)
        except OSError as problem:
            # The service is more important than its metrics, so the supervisor starts without them.
            log.error("there will be no metrics", address=address, problem=str(problem))
            return None

    def _keep(self) -> tuple[dict[str, Any], list[int]]:
        control, web = self._control.fileno(), self._web.fileno() if self._web else None
        facts = {"control": control, "web": web, "orphans": self._children.orphans}
        return facts, [control] if web is None else [control, web]

    # ── signals ──

    def _take_signals(self) -> None:
        self._loop.on_signals({signal.SIGCHLD}, lambda _number: self._children.reap())
        self._loop.on_signals({*_STOPS}, self._stop)
        self._loop.on_signals({signal.SIGHUP}, self._upgrade)
        self._loop.on_signals(set(signal.valid_signals()) - _OURS - set(range(32, 64)), self._forward)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _count(self, number: int) -> None:
        self._service.metrics.signals.add(label=signal.Signals(number).name)

    def _stop(self, number: int) -> None:
        self._count(number)
        self._service.stop_signal = number
        log.info("stopping", signal=signal.Signals(number).name)
        self._service.happen(ServiceEvent.STOP)

    def _upgrade(self, number: int) -> None:
        self._count(number)
        self._service.happen(ServiceEvent.UPGRADE)

    def _forward(self, number: int) -> None:
        self._count(number)
        serving = self._service.roles.serving
        if serving is not None and serving.alive:
            signal_one(serving.pid, number)

    def _stopped(self, code: int) -> None:
        self._exit_code = code
        self._loop.stop()


def _name_process() -> None:
    Path("/proc/self/comm").write_text("aeterna")
    if os.getpid() != 1:
        from aeterna.supervisor.processes.kernel import become_subreaper

        become_subreaper()


def run(file: str, settings: tuple[str, ...]) -> int:
    """`aeterna start`: the exit code of the service, or 78 if it could not be started."""
    try:
        supervisor = SupervisorProcess(file, settings, reexec.read())
    except (ConfigError, ListenError, OSError) as problem:
        log.error("cannot start", problem=str(problem))
        return 78  # EX_CONFIG: a restart without a change would fail again
    return supervisor.run()
