"""A real supervisor in a directory of its own, on sockets of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aeterna.cli.main import ask

_PATIENCE_S = 15.0


def sample_command(python: str = sys.executable) -> list[str]:
    """The command of the sample server."""
    return [python, "-I", "-S", str(Path(__file__).with_name("sample.py"))]


class Supervised:
    """`with Supervised(tmp_path, config) as it: it.reload()`. At the end, all processes that are left are killed."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        *,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        uid: int | None = None,
    ) -> None:
        """`uid` is the user that `prefix` makes the supervisor run as."""
        self._python = python
        self._users = () if uid is None else (uid,)
        self.directory = directory
        self.file = directory / "aeterna.yaml"
        self.control = f"@aeterna-test-{secrets.token_hex(8)}"
        self._prefix = list(prefix)
        self._env = dict(env or {})
        self.log = directory / "supervisor.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write(config)

    def write(self, config: Mapping[str, Any]) -> None:
        """Write a new configuration. (JSON is YAML.)"""
        whole = {"listeners": ["127.0.0.1:0"], **config}
        whole["service"] = {"command": sample_command(self._python), **config.get("service", {})}
        whole["control"] = {"socket_path": self.control}
        self.file.write_text(json.dumps(whole, indent=1))

    def start(self) -> Supervised:
        """Start it and wait until the service runs."""
        self.launch()
        try:
            self.until(lambda s: s["state"] == "running")
        except BaseException:
            self.close()
            raise
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self._prefix, self._python, "-m", "aeterna", "start", "-c", str(self.file)],
                stdout=output,
                stderr=output,
                env={**os.environ, **self._env},
            )

    def __enter__(self) -> Supervised:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The pid of the supervisor."""
        assert self.process is not None
        return self.process.pid

    def ask(self, command: str, **more: Any) -> dict[str, Any]:
        """Send one request to the control socket."""
        return ask(self.control, {"command": command, **more}, 60.0, users=self._users)

    def status(self) -> dict[str, Any]:
        """The answer to `status`."""
        return self.ask("status")

    def reload(self) -> dict[str, Any]:
        """Upgrade, and return the outcome."""
        return self.ask("reload")

    def until(self, true: Callable[[dict[str, Any]], bool], patience_s: float = _PATIENCE_S) -> dict[str, Any]:
        """Wait for a status for which `true` returns true."""
        last: object = None
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the supervisor ended with {self.process.returncode}\n{self.log.read_text()}")
            try:
                status = self.status()
            except OSError as problem:
                last = problem
            else:
                if true(status):
                    return status
                last = status
            time.sleep(0.005)
        raise AssertionError(f"not within {patience_s} s; last: {last}\n{self.log.read_text()[-6000:]}")

    def address(self, name: str = "") -> tuple[str, int]:
        """The address of a listener, by default the first."""
        for listener in self.status()["listeners"]:
            if not name or listener["name"] == name:
                host, _, port = str(listener["address"]).rpartition("://")[2].rpartition(":")
                return ("127.0.0.1" if host == "[::]" else host.strip("[]")), int(port)
        raise AssertionError(f"no listener {name}")

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def wait(self, patience_s: float = _PATIENCE_S) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return self.process.wait(patience_s)

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Kill the supervisor and all its descendants."""
        if self.process is None or self.process.poll() is not None:
            return
        pids = [self.process.pid, *descendants(self.process.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(_PATIENCE_S)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    for child in children:
        found += [child, *descendants(child)]
    return found
