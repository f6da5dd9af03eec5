"""One process of the service, from its fork to its funeral."""

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
from aeterna.supervisor.processes.child import FIRST_FD, Children, Program, signal_group, signal_one
from aeterna.supervisor.processes.notify import Notice, NotifySocket
from aeterna.table.soak import Counted


@dataclass(frozen=True)
class Release:
    """A configuration and the text it was read from: enough to start the same thing again, here or in a new image."""

    config: Config
    text: str
    settings: tuple[str, ...] = ()

    @staticmethod
    def of(text: str, file: str, settings: tuple[str, ...]) -> Release:
        """Read it; ConfigError if it cannot be meant."""
        return Release(read(text, file, settings), text, settings)

    def keep(self) -> dict[str, Any]:
        """For the next image."""
        return {"text": self.text, "settings": list(self.settings)}


@dataclass
class Generation:
    """One process and all that is ours and dies with it."""

    number: int
    release: Release
    slot: int
    token: str
    notify: NotifySocket
    pid: int = 0
    started: float = 0.0
    ready: bool = False
    notified: bool = False
    joined: bool = False
    status: str = ""
    counted: Counted | None = None
    terminated: bool = False
    exit_code: int | None = None
    ready_fd: int = -1
    killer: Timer | None = None

    @property
    def config(self) -> Config:
        """What it was started with."""
        return self.release.config

    @property
    def alive(self) -> bool:
        """Has it not been reaped?"""
        return self.exit_code is None

    def fill(self, template: str) -> str:
        """`{generation}`, `{pid}` and `{release}` in an address."""
        for name, value in (("generation", self.number), ("pid", self.pid), ("release", self.config.service.release)):
            template = template.replace("{" + name + "}", str(value))
        return template

    def terminate(self, loop: Loop, number: int, grace_s: float, on_kill: Callable[[], None]) -> None:
        """Ask it to go; when it has not gone after `grace_s`, it is not asked."""
        if not self.alive or self.terminated:
            return
        self.terminated = True
        signal_one(self.pid, number)

        def kill() -> None:
            if self.alive:
                on_kill()
                self.kill()

        self.killer = loop.call_later(grace_s, kill)

    def kill(self) -> None:
        """At once, with all that stayed in its group."""
        if self.alive:
            signal_group(self.pid, signal.SIGKILL)

    def bury(self, loop: Loop, code: int) -> None:
        """It has been reaped."""
        self.exit_code = code
        # Workers of a dead master would go on accepting connections that nobody answers for.
        signal_group(self.pid, signal.SIGKILL)
        if self.killer is not None:
            self.killer.cancel()
        self.notify.close()
        self.close_ready_fd(loop)

    def close_ready_fd(self, loop: Loop) -> None:
        """Nobody waits for it any more."""
        if self.ready_fd >= 0:
            loop.remove_reader(self.ready_fd)
            os.close(self.ready_fd)
            self.ready_fd = -1

    def keep(self) -> dict[str, Any]:
        """For the next image."""
        return {
            "number": self.number,
            "pid": self.pid,
            "slot": self.slot,
            "token": self.token,
            "started": self.started,
            "joined": self.joined,
            "notify": self.notify.fileno(),
            "release": self.release.keep(),
        }


def start(
    loop: Loop,
    children: Children,
    generation: Generation,
    lent: list[tuple[str, int]],
    extra: Mapping[str, str],
    on_exit: Callable[[int], None],
) -> None:
    """Fork it, with its listeners from descriptor 3 on."""
    service = generation.config.service
    env = {**os.environ, **dict(service.env), **extra}
    for name in ("AETERNA_REEXEC_FD", "EINHORN_FDS", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        env.pop(name, None)
    fds = [fd for _, fd in lent]
    env |= {
        "AETERNA_MANAGED": "1",
        "AETERNA_GENERATION": str(generation.number),
        "AETERNA_TOKEN": generation.token,
        "AETERNA_INHERITED_FDS": ",".join(str(FIRST_FD + i) for i in range(len(lent))),
        "NOTIFY_SOCKET": generation.notify.name,
    }
    if service.release:
        env["AETERNA_RELEASE"] = service.release
    if lent:
        env["LISTEN_FDS"] = str(len(lent))
        env["LISTEN_FDNAMES"] = ":".join(name for name, _ in lent)
    told = -1
    if generation.config.orchestration.startup.readiness.kind == "fd":
        generation.ready_fd, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        env["AETERNA_READY_FD"] = str(FIRST_FD + len(fds))
        fds.append(told)
    program = Program(
        argv=[generation.fill(word) for word in service.command],
        executable=generation.fill(service.executable),
        env=env,
        directory=service.directory,
        fds=fds,
        tell_pid="LISTEN_PID" if lent else "",
    )
    generation.started = loop.now()
    generation.pid = children.spawn(program, on_exit)
    if told >= 0:
        os.close(told)
    log.info("started", generation=generation.number, pid=generation.pid, command=" ".join(program.argv))


def fresh(number: int, release: Release, slot: int, loop: Loop, on_notice: Callable[[Notice], None]) -> Generation:
    """One that is not started yet."""
    return Generation(number, release, slot, secrets.token_hex(16), NotifySocket(loop, on_notice))
