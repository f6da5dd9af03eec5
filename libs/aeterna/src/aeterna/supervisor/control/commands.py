"""The commands of the control socket, and their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aeterna.supervisor.control import status
from aeterna.supervisor.control.control_socket import ControlClient
from aeterna.supervisor.upgrade.outcome import UpgradeOutcome, Waiter
from aeterna.supervisor.upgrade.service import Service
from aeterna.table.service import Machine, ServiceEvent, ServiceState


class ControlCommands:
    """Answers one request at a time. `metrics_port`, `reexec` and `stop` belong to the supervisor as a whole."""

    def __init__(
        self,
        service: Service,
        *,
        metrics_port: Callable[[], int | None],
        reexec: Callable[[ControlClient], None],
        stop: Callable[[], None],
    ) -> None:
        self._service = service
        self._metrics_port = metrics_port
        self._reexec = reexec
        self._stop = stop

    def handle(self, client: ControlClient, request: Any) -> None:
        """One request: a JSON object with a `command`."""
        command = request.get("command") if isinstance(request, dict) else None
        match command:
            case "status":
                client.reply({"ok": True, **self.status()})
            case "metrics":
                client.reply({"ok": True, "text": status.metrics(self._service)})
            case "listeners":
                serving = self._service.roles.serving
                lent = self._service.lent_to(serving.number) if serving else []
                client.reply({"ok": True, "names": [name for name, _ in lent]}, [fd for _, fd in lent])
            case "reload" | "rollback":
                self._upgrade(client, command, wait=bool(request.get("wait", True)), tell=bool(request.get("tell")))
            case "reexec":
                self._reexec(client)
            case "stop":
                client.reply({"ok": True})
                self._stop()
            case _:
                client.reply({"ok": False, "code": 400, "error": f"no such command: {command}"})

    def status(self) -> dict[str, Any]:
        """The answer to `status`."""
        return {**status.status(self._service), "metrics_port": self._metrics_port()}

    def _upgrade(self, client: ControlClient, command: str, *, wait: bool, tell: bool) -> None:
        service = self._service
        machine = service.machine
        if command == "rollback" and not self._can_roll_back(machine):
            client.reply({"ok": False, "code": 409, "error": f"nothing to roll back to while {machine.state.value}"})
            return
        if machine.state in (ServiceState.PENDING, ServiceState.STOPPING, ServiceState.STOPPED) or (
            machine.state is ServiceState.STARTING and command == "rollback"
        ):
            client.reply({"ok": False, "code": 409, "error": f"not while {machine.state.value}"})
            return
        queued = command == "reload" and (service.upgrades.under_way or machine.state is ServiceState.STARTING)
        if wait:
            # An upgrade that begins with the event below takes over the waiters of the next upgrade.
            self._wait(client, command, tell=tell, queued=queued or not service.upgrades.under_way)
        else:
            client.reply({"ok": True, "code": 202, "queued": queued})
        if command == "rollback" and service.upgrades.under_way:
            service.upgrades.fail("rollback", "an operator asked for it")
        service.happen(ServiceEvent.UPGRADE if command == "reload" else ServiceEvent.ROLLBACK)

    def _wait(self, client: ControlClient, command: str, *, tell: bool, queued: bool) -> None:
        upgrades = self._service.upgrades

        def ended(outcome: UpgradeOutcome) -> None:
            rolled_back = command == "rollback" and outcome.kind == "rollback"
            client.reply({"ok": outcome.result == "done" or rolled_back, **outcome.view()})

        def passes(state: str, limit_s: float | None) -> None:
            client.reply({"state": state, "limit_s": limit_s})

        waiter = Waiter(ended, passes) if tell else Waiter(ended)
        client.call_on_close(lambda: upgrades.forget(waiter))
        upgrades.wait(waiter, queued=queued)

    def _can_roll_back(self, machine: Machine) -> bool:
        if machine.state is ServiceState.RUNNING:
            return self._service.specs.previous is not None
        too_late = (ServiceState.DRAINING, ServiceState.RETURNING, ServiceState.ROLLING_BACK)
        return machine.upgrading and machine.state not in too_late
