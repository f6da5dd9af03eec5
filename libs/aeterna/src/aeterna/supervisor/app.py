"""The whole graph, by hand: `run` is PID 1."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from aeterna.config.field import ConfigError
from aeterna.supervisor import log
from aeterna.supervisor import reexec as rebirth
from aeterna.supervisor.control import status
from aeterna.supervisor.control.control_socket import Client, ControlSocket
from aeterna.supervisor.control.web import Web
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.probes.checks import Attempt
from aeterna.supervisor.processes.child import Children, signal_one
from aeterna.supervisor.processes.generation import Generation, Release
from aeterna.supervisor.processes.notices import hear
from aeterna.supervisor.processes.notify import NotifySocket
from aeterna.supervisor.sockets.listeners import ListenError
from aeterna.supervisor.upgrade.outcome import Outcome, Waiter
from aeterna.supervisor.upgrade.service import Service
from aeterna.table.restart import Deaths
from aeterna.table.service import Event, Machine, State

_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
# Not forwarded: they tell of a mistake of our own, cannot be caught, or mean something to this process alone.
_OURS = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGHUP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
    signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGTSTP, *_STOPS,
}  # fmt: skip
_TRIAL_S = 30.0
_PORT_PATIENCE_S = 5.0
_PORT_AGAIN_S = 0.25


class App:
    """One service, its control socket and its page of numbers."""

    def __init__(self, file: str, settings: tuple[str, ...]) -> None:
        self._file = file
        self._settings = settings
        self._kept = rebirth.read()
        self._exit_code = 0
        self._loop = Loop()
        self._children = Children()
        self._web: Web | None = None
        self._trial: Attempt | None = None
        release = self._kept_release(self._kept["release"]) if self._kept else self._read()
        log.set_level(release.config.observability.log_level)
        for doubt in release.config.warnings:
            log.warn(doubt)
        self._service = Service(self._loop, self._children, release, self._read, self._stopped)
        self._control: ControlSocket

    def run(self) -> int:
        """Until the service has ended; its exit code."""
        Path("/proc/self/comm").write_text("aeterna")
        if os.getpid() != 1:
            from aeterna.supervisor.processes.kernel import become_subreaper

            become_subreaper()
        self._loop.on_signals({signal.SIGCHLD}, lambda _number: self._children.reap())
        self._loop.on_signals({*_STOPS}, self._stop)
        self._loop.on_signals({signal.SIGHUP}, self._hang_up)
        self._loop.on_signals(set(signal.valid_signals()) - _OURS - set(range(32, 64)), self._forward)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        kept, self._kept = self._kept, None
        if kept is None:
            self._open()
            self._service.happen(Event.START)
        else:
            self._resume(kept)
        # What died between the two images, or before the first signal could be heard, has no signal left.
        self._children.reap()
        self._loop.run()
        self._close()
        return self._exit_code

    def _read(self) -> Release:
        try:
            text = Path(self._file).read_text()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"{self._file}: {problem}") from problem
        return Release.of(text, self._file, self._settings)

    def _kept_release(self, kept: dict[str, Any]) -> Release:
        return Release.of(kept["text"], self._file, tuple(kept["settings"]))

    def _open(self) -> None:
        config = self._service.release.config
        self._control = ControlSocket(self._loop, config.control_path, self._asked)
        self._open_patiently()
        if config.observability.metrics:
            self._open_web(config.observability.metrics, None)

    def _open_patiently(self) -> None:
        """Processes of a supervisor that was killed may still be finishing what they had, on the same port."""
        deadline = self._loop.now() + _PORT_PATIENCE_S
        while True:
            try:
                self._service.open()
                return
            except ListenError as problem:
                if self._loop.now() > deadline:
                    raise
                log.warn("waiting for an address", problem=str(problem))
                time.sleep(_PORT_AGAIN_S)

    def _open_web(self, where: str, fd: int | None) -> None:
        try:
            self._web = Web(self._loop, where, lambda: status.metrics(self._service), self._status, fd)
        except OSError as problem:
            # The service matters more than the numbers about it.
            log.error("there will be no metrics", address=where, problem=str(problem))

    def _close(self) -> None:
        self._service.relay.close()
        self._service.listeners.close_all()
        self._control.close()
        if self._web is not None:
            self._web.close()

    # ── signals ──

    def _count(self, number: int) -> None:
        self._service.metrics.signals.add(label=signal.Signals(number).name)

    def _stop(self, number: int) -> None:
        self._count(number)
        self._service.stop_signal = number
        log.info("stopping", signal=signal.Signals(number).name)
        self._service.happen(Event.STOP)

    def _hang_up(self, number: int) -> None:
        self._count(number)
        self._service.happen(Event.UPGRADE)

    def _forward(self, number: int) -> None:
        self._count(number)
        serving = self._service.serving
        if serving is not None and serving.alive:
            signal_one(serving.pid, number)

    def _stopped(self, code: int) -> None:
        self._exit_code = code
        self._loop.stop()

    # ── control ──

    def _asked(self, client: Client, request: Any) -> None:
        command = request.get("command") if isinstance(request, dict) else None
        match command:
            case "status":
                client.reply({"ok": True, **self._status()})
            case "metrics":
                client.reply({"ok": True, "text": status.metrics(self._service)})
            case "listeners":
                lent = self._service.lent()
                client.reply({"ok": True, "names": [name for name, _ in lent]}, [fd for _, fd in lent])
            case "reload" | "rollback":
                self._upgrade(client, command, wait=bool(request.get("wait", True)), tell=bool(request.get("tell")))
            case "reexec":
                self._try_rebirth(client)
            case "stop":
                client.reply({"ok": True})
                self._stop(signal.SIGTERM)
            case _:
                client.reply({"ok": False, "code": 400, "error": f"no such command: {command}"})

    def _upgrade(self, client: Client, command: str, *, wait: bool, tell: bool) -> None:
        service = self._service
        machine = service.machine
        if command == "rollback" and not self._can_roll_back(machine):
            client.reply({"ok": False, "code": 409, "error": f"nothing to roll back to while {machine.state.value}"})
            return
        if machine.state in (State.PENDING, State.STOPPING, State.STOPPED) or (
            machine.state is State.STARTING and command == "rollback"
        ):
            client.reply({"ok": False, "code": 409, "error": f"not while {machine.state.value}"})
            return
        queued = command == "reload" and (service.upgrades.under_way or machine.state is State.STARTING)
        if wait:

            def ended(outcome: Outcome) -> None:
                rolled_back = command == "rollback" and outcome.kind == "rollback"
                client.reply({"ok": outcome.result == "done" or rolled_back, **outcome.view()})

            def passes(state: str, limit_s: float | None) -> None:
                client.reply({"state": state, "limit_s": limit_s})

            waiter = Waiter(ended, passes) if tell else Waiter(ended)
            client.on_close = _both(client.on_close, lambda: service.upgrades.forget(waiter))
            # One that begins with this very event takes in those who wait for the next.
            service.upgrades.wait(waiter, queued=queued or not service.upgrades.under_way)
        else:
            client.reply({"ok": True, "code": 202, "queued": queued})
        if command == "rollback" and service.upgrades.under_way:
            service.upgrades.fail("rollback", "an operator asked for it")
        service.happen(Event.UPGRADE if command == "reload" else Event.ROLLBACK)

    def _can_roll_back(self, machine: Machine) -> bool:
        if machine.state is State.RUNNING:
            return self._service.previous is not None
        return machine.upgrading and machine.state not in (State.DRAINING, State.RETURNING, State.ROLLING_BACK)

    def _status(self) -> dict[str, Any]:
        return {**status.status(self._service), "metrics_port": self._web.port if self._web else None}

    # ── a new image ──

    def _quiet(self) -> bool:
        service = self._service
        return service.machine == Machine(State.RUNNING) and not service.upgrades.awaited and service.retiring is None

    def _try_rebirth(self, client: Client) -> None:
        if not self._quiet() or self._trial is not None:
            client.reply({"ok": False, "code": 409, "error": f"not while {self._service.machine.state.value}"})
            return

        def tried(passed: bool, said: str) -> None:
            self._trial = None
            if not passed or not self._quiet():
                why = said if not passed else "the service is not at rest any more"
                client.reply({"ok": False, "code": 409, "error": f"the new image is not fit: {why}"})
                return
            client.reply({"ok": True})
            self._be_reborn()

        settings = [word for setting in self._settings for word in ("--set", setting)]
        # -P: the directory one happens to be in is no place to find code.
        trial = [sys.executable, "-P", "-m", "aeterna", "check", "-c", self._file, *settings]
        self._trial = Attempt(self._loop, self._children, _TRIAL_S, tried).run(trial, os.environ)

    def _be_reborn(self) -> None:
        service = self._service
        assert service.serving is not None
        if service.standby is not None:
            service.standby.kill()
        facts = {
            "release": service.release.keep(),
            "previous": service.previous.keep() if service.previous else None,
            "serving": service.serving.keep(),
            "number": service.number,
            "listeners": service.listeners.keep(),
            "store": service.store.keep(),
            "control": self._control.fileno(),
            "web": self._web.fileno() if self._web else None,
            "relay": service.relay.keep(),
            "metrics": service.metrics.keep(),
            "deaths": service.deaths.count,
            "orphans": self._children.orphans,
            "last": service.upgrades.last.view() if service.upgrades.last else None,
        }
        fds = [fd for listener in service.listeners.all() for fd in (s.fileno() for s in listener.sockets)]
        fds += [fd for _, fd in service.store.all()] + service.relay.fds()
        fds += [self._control.fileno(), service.serving.notify.fileno()] + ([self._web.fileno()] if self._web else [])
        log.info("a new image")
        try:
            rebirth.become(facts, fds)
        except OSError as problem:
            log.error("the old image stays", problem=str(problem))

    def _resume(self, kept: dict[str, Any]) -> None:
        service = self._service
        config = service.release.config
        self._control = ControlSocket(self._loop, config.control_path, self._asked, kept["control"])
        service.listeners.resume(kept["listeners"], config.listeners)
        service.store.resume(kept["store"])
        service.metrics.resume(kept["metrics"])
        service.upgrades.resume(kept["last"])
        service.deaths = Deaths(int(kept["deaths"]))
        service.number = int(kept["number"])
        service.previous = self._kept_release(kept["previous"]) if kept["previous"] else None
        self._children.orphans = int(kept["orphans"])
        service.open(kept["relay"])
        facts = kept["serving"]
        serving = Generation(
            int(facts["number"]),
            self._kept_release(facts["release"]),
            int(facts["slot"]),
            str(facts["token"]),
            NotifySocket(self._loop, lambda notice: hear(service, serving, notice), int(facts["notify"])),
            pid=int(facts["pid"]),
            started=float(facts["started"]),
            ready=True,
            joined=bool(facts["joined"]),
        )
        service.adopt(serving)
        service.machine = Machine(State.RUNNING)
        if kept["web"] is not None:
            self._open_web(config.observability.metrics, int(kept["web"]))
        log.info("resumed", generation=serving.number, pid=serving.pid)
        service.keep_standby()


def _both(first: Any, second: Any) -> Any:
    def both() -> None:
        first()
        second()

    return both


def run(file: str, settings: tuple[str, ...]) -> int:
    """`aeterna start`. ConfigError, ListenError and OSError before anything was started."""
    try:
        return App(file, settings).run()
    except (ConfigError, ListenError, OSError) as problem:
        log.error("cannot start", problem=str(problem))
        return 78  # EX_CONFIG: nobody should try again before something is changed
