"""The supervisor replaces its own image and keeps its pid, sockets and children, so clients and service are
undisturbed.

The supervisor writes its state into a sealed memfd, which the next image reads. Every descriptor it holds open is made
inheritable for the moment of the exec. Before that, a child process must prove that the new code can read the
configuration: an exec cannot be undone.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aeterna.supervisor import log
from aeterna.supervisor.control.control_socket import ControlClient
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.timed import TimedProcess
from aeterna.supervisor.upgrade.service import Service

VARIABLE = "AETERNA_REEXEC_FD"
_VERSION = 1
_TRIAL_S = 30.0


class Reexec:
    """Tries the new image, then replaces this one. `keep` gives the facts and descriptors of the supervisor itself."""

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        service: Service,
        *,
        file: str,
        settings: Sequence[str],
        keep: Callable[[], tuple[dict[str, Any], list[int]]],
    ) -> None:
        self._loop = loop
        self._children = children
        self._service = service
        self._file = file
        self._settings = settings
        self._keep = keep
        self._trial: TimedProcess | None = None

    def start(self, client: ControlClient) -> None:
        """Answer the client, and replace this image if the trial has passed and the service is still at rest."""
        service = self._service
        if not service.at_rest or self._trial is not None:
            client.reply({"ok": False, "code": 409, "error": f"not while {service.machine.state.value}"})
            return

        def tried(passed: bool, output: str) -> None:
            self._trial = None
            if not passed or not service.at_rest:
                why = output if not passed else "the service is not at rest any more"
                client.reply({"ok": False, "code": 409, "error": f"the new image is not fit: {why}"})
                return
            client.reply({"ok": True})
            self._replace()

        settings = [word for setting in self._settings for word in ("--set", setting)]
        # -P: code in the current directory must not be imported.
        command = [sys.executable, "-P", "-m", "aeterna", "check", "-c", self._file, *settings]
        self._trial = TimedProcess(self._loop, self._children, _TRIAL_S, tried).run(command, os.environ)

    def _replace(self) -> None:
        service = self._service
        if service.roles.standby is not None:
            service.roles.standby.kill()
        facts, fds = self._keep()
        log.info("a new image")
        try:
            become({**service.keep(), **facts}, [*service.kept_fds(), *fds])
        except OSError as problem:
            log.error("the old image stays", problem=str(problem))


def write(facts: dict[str, Any]) -> int:
    """A sealed memfd with the facts as JSON."""
    fd = os.memfd_create("aeterna", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    data = json.dumps({"version": _VERSION, **facts}).encode()
    while data:
        data = data[os.write(fd, data) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    return fd


def read() -> dict[str, Any] | None:
    """The facts that the image before this one wrote; None at a first start."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    fd = int(text)
    size = os.fstat(fd).st_size
    facts: dict[str, Any] = json.loads(os.pread(fd, size, 0))
    os.close(fd)
    if facts["version"] != _VERSION:
        raise ValueError(f"the image before this one wrote version {facts['version']}, this one reads {_VERSION}")
    return facts


def become(facts: dict[str, Any], fds: Iterable[int]) -> None:
    """Replace this image. It returns only by raising OSError; then nothing has changed."""
    memory = write(facts)
    kept = [memory, *fds]
    for fd in kept:
        os.set_inheritable(fd, True)
    try:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, VARIABLE: str(memory)})
    except OSError:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(memory)
        raise
