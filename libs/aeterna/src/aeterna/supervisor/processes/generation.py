"""One process of the service, from its start until it is reaped."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aeterna.config.model import Config
from aeterna.config.read import read
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.processes.child import FIRST_FD, ChildProcesses, ChildProgram, signal_group, signal_one
from aeterna.supervisor.processes.fdstore import FdStore
from aeterna.supervisor.processes.notify import NotifyDatagram, NotifySocket
from aeterna.table.soak import Counted


@dataclass(frozen=True)
class LaunchSpec:
    """A configuration and the text it was read from: enough to start the same program again, in this image or the next.

    The keys that `keep` writes are read by later images, so they never change.
    """

    config: Config
    text: str
    settings: tuple[str, ...] = ()

    @staticmethod
    def of(text: str, file: str, settings: tuple[str, ...]) -> LaunchSpec:
        """Read the text; ConfigError if it is not a valid configuration."""
        return LaunchSpec(read(text, file, settings), text, settings)

    def keep(self) -> dict[str, Any]:
        """The state for the next image."""
        return {"text": self.text, "settings": list(self.settings)}


def _nothing() -> None:
    pass


class Generation:
    """One process, and the descriptors and timers of the supervisor that belong to it alone.

    `ready` is the supervisor's judgement, `notified` is the process's own READY=1. `joined` means that the process has
    asked the broker for state.
    """

    def __init__(
        self,
        loop: Loop,
        store: FdStore,
        number: int,
        spec: LaunchSpec,
        slot: int,
        *,
        token: str = "",
        notify_fd: int | None = None,
    ) -> None:
        self.number = number
        self.spec = spec
        self.slot = slot  # which of the two sockets of a steered listener it is given
        self.token = token or secrets.token_hex(16)
        self.notify = NotifySocket(loop, self._hear, notify_fd)
        self.pid = 0
        self.started = 0.0
        self.ready = False
        self.notified = False
        self.joined = False
        self.status = ""
        self.counted: Counted | None = None
        self.terminated = False
        self.exit_code: int | None = None
        self.ready_fd = -1
        # Set by the code that waits for the process, see `probes.watch`.
        self.on_notified: Callable[[], None] = _nothing
        self.on_counted: Callable[[], None] = _nothing
        self.on_settled: Callable[[], None] = _nothing
        self._loop = loop
        self._store = store
        self._killer: Timer | None = None

    @property
    def config(self) -> Config:
        """The configuration it was started with."""
        return self.spec.config

    @property
    def alive(self) -> bool:
        """True until it is reaped."""
        return self.exit_code is None

    def fill(self, template: str) -> str:
        """Fill in `{generation}`, `{pid}` and `{release}`."""
        for name, value in (("generation", self.number), ("pid", self.pid), ("release", self.config.service.release)):
            template = template.replace("{" + name + "}", str(value))
        return template

    def start(
        self,
        children: ChildProcesses,
        lent: list[tuple[str, int]],
        extra: Mapping[str, str],
        on_exit: Callable[[int], None],
    ) -> None:
        """Fork the process. The lent descriptors become 3, 4, … in this order."""
        service = self.config.service
        env = {**os.environ, **dict(service.env), **extra}
        for name in ("AETERNA_REEXEC_FD", "EINHORN_FDS", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            env.pop(name, None)
        fds = [fd for _, fd in lent]
        env |= {
            "AETERNA_MANAGED": "1",
            "AETERNA_GENERATION": str(self.number),
            "AETERNA_TOKEN": self.token,
            "AETERNA_INHERITED_FDS": ",".join(str(FIRST_FD + i) for i in range(len(lent))),
            "NOTIFY_SOCKET": self.notify.name,
        }
        if service.release:
            env["AETERNA_RELEASE"] = service.release
        if lent:
            env["LISTEN_FDS"] = str(len(lent))
            env["LISTEN_FDNAMES"] = ":".join(name for name, _ in lent)
        ready_write = -1
        if self.config.orchestration.startup.readiness.kind == "fd":
            self.ready_fd, ready_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            env["AETERNA_READY_FD"] = str(FIRST_FD + len(fds))
            fds.append(ready_write)
        program = ChildProgram(
            argv=[self.fill(word) for word in service.command],
            executable=self.fill(service.executable),
            env=env,
            directory=service.directory,
            fds=fds,
            pid_variable="LISTEN_PID" if lent else "",
        )
        self.started = self._loop.now()
        self.pid = children.spawn(program, on_exit)
        if ready_write >= 0:
            os.close(ready_write)
        log.info("started", generation=self.number, pid=self.pid, command=" ".join(program.argv))

    def settled(self) -> None:
        """The broker has given the process its state, or has told it that there is none."""
        self.on_settled()

    def terminate(self, number: int, grace_s: float, on_kill: Callable[[], None]) -> None:
        """Send the signal `number`, and SIGKILL when the process still lives after `grace_s`."""
        if not self.alive or self.terminated:
            return
        self.terminated = True
        signal_one(self.pid, number)

        def kill() -> None:
            if self.alive:
                on_kill()
                self.kill()

        self._killer = self._loop.call_later(grace_s, kill)

    def kill(self) -> None:
        """Send SIGKILL to the process and to all processes that stayed in its group."""
        if self.alive:
            signal_group(self.pid, signal.SIGKILL)

    def exited(self, code: int) -> None:
        """The process has been reaped: close what belongs to it."""
        self.exit_code = code
        # The workers of a dead master process would go on accepting connections that are never answered.
        signal_group(self.pid, signal.SIGKILL)
        if self._killer is not None:
            self._killer.cancel()
        self.notify.close()
        self.close_ready_fd()

    def close_ready_fd(self) -> None:
        """The supervisor no longer waits for the process to write to the descriptor."""
        if self.ready_fd >= 0:
            self._loop.remove_reader(self.ready_fd)
            os.close(self.ready_fd)
            self.ready_fd = -1

    def keep(self) -> dict[str, Any]:
        """The state for the next image."""
        return {
            "number": self.number,
            "pid": self.pid,
            "slot": self.slot,
            "token": self.token,
            "started": self.started,
            "joined": self.joined,
            "notify": self.notify.fileno(),
            "release": self.spec.keep(),
        }

    @staticmethod
    def resumed(loop: Loop, store: FdStore, spec: LaunchSpec, kept: Mapping[str, Any]) -> Generation:
        """The process that `keep` described, in the next image. Only a ready process is serving at a re-exec."""
        generation = Generation(
            loop,
            store,
            int(kept["number"]),
            spec,
            int(kept["slot"]),
            token=str(kept["token"]),
            notify_fd=int(kept["notify"]),
        )
        generation.pid = int(kept["pid"])
        generation.started = float(kept["started"])
        generation.ready = True
        generation.joined = bool(kept["joined"])
        return generation

    def _hear(self, notice: NotifyDatagram) -> None:
        """One datagram on the notify socket. Lines with unknown names are for other supervisors and are ignored."""
        lines = notice.lines
        if lines.get("FDSTORE") == "1":
            self._store.put(lines.get("FDNAME", "stored"), notice.fds)
        else:
            for fd in notice.fds:
                os.close(fd)
        if lines.get("FDSTOREREMOVE") == "1" and "FDNAME" in lines:
            self._store.remove(lines["FDNAME"])
        if "STATUS" in lines:
            self.status = lines["STATUS"][:256]
            log.info("status", generation=self.number, status=self.status)
        if "X_AETERNA_REQUESTS" in lines:
            self._count(lines["X_AETERNA_REQUESTS"], lines.get("X_AETERNA_ERRORS", "0"))
        if lines.get("READY") == "1":
            self.notified = True
            self.on_notified()

    def _count(self, requests: str, errors: str) -> None:
        try:
            self.counted = Counted(float(requests), float(errors))
        except ValueError:
            log.warn("no number", generation=self.number, said=requests[:64])
        else:
            self.on_counted()
