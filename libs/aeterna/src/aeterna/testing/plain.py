"""An upgrade without a supervisor: the control runs that a test of upgrades must see fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import Literal

from aeterna.testing.supervised import sample_command

How = Literal["restart", "overlap"]


class Plain:
    """The sample server with a port of its own. `restart`: stop, then start. `overlap`: both processes listen for a
    while."""

    def __init__(self, how: How) -> None:
        self._how = how
        self._number = 0
        with socket.socket() as scout:
            scout.bind(("127.0.0.1", 0))
            self.address = ("127.0.0.1", int(scout.getsockname()[1]))
        self.process = self._spawn()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def reload(self) -> None:
        """Replace the process."""
        old = self.process
        if self._how == "restart":
            old.send_signal(signal.SIGTERM)
            old.wait()
            self.process = self._spawn()
        else:
            self.process = self._spawn()
            old.send_signal(signal.SIGTERM)
            old.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._number += 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            name = f"aeterna-plain-{os.getpid()}-{self._number}-{id(self)}"
            ready.bind("\0" + name)
            ready.settimeout(10.0)
            env = {
                "NOTIFY_SOCKET": "@" + name,
                "AETERNA_GENERATION": str(self._number),
                "SAMPLE_BIND": str(self.address[1]),
            }
            process = subprocess.Popen(sample_command(), env={**os.environ, **env})
            ready.recv(100)
        return process
