"""An embedded Aetheris as a user has it: a process with options, an environment and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from aetheris_embedded.child_process import die_with_parent

from harness.environment import environment
from harness.suite import free_ports

_DEADLINE_S = 60.0


class Embedded:
    def __init__(self, data_dir: Path, *arguments: str, **more: str) -> None:
        self.data_dir = data_dir
        self.http, self.grpc = free_ports(2)
        listens = ["--http-listen", f"127.0.0.1:{self.http}", "--grpc-listen", f"127.0.0.1:{self.grpc}"]
        handle, name = tempfile.mkstemp(prefix="aetheris-stderr-")
        self.errors = Path(name)
        with os.fdopen(handle, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aetheris_embedded", "--data-dir", str(data_dir), *listens, *arguments],
                env=environment(more),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.http}", timeout=_DEADLINE_S)

    @property
    def said(self) -> str:
        return self.errors.read_text()

    def welcomed(self) -> str:
        """What it prints once it serves."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if "curl" in line:
                return "".join(lines)
        raise AssertionError(f"it ended with {self.process.wait()}: {self.said}")

    def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_DEADLINE_S)

    def submit(self, agent: str, message: str) -> str:
        answer = self.api.post(f"/api/agents/{agent}/message", json={"content": message})
        answer.raise_for_status()
        return str(answer.json()["job_id"])

    def job(self, job_id: str, *, wait: float = 0) -> dict[str, Any]:
        answer = self.api.get(f"/api/jobs/{job_id}", params={"wait": wait})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def runner_pid(self, number: int) -> int:
        return int((self.data_dir / "run" / f"runner-{number}.pid").read_text())

    def postgres_pid(self) -> int:
        return int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.api.close()
        self.errors.unlink(missing_ok=True)
        if (self.data_dir / "postgres" / "postmaster.pid").exists() and alive(pid := self.postgres_pid()):
            os.kill(pid, signal.SIGQUIT)
            deadline = time.monotonic() + _DEADLINE_S
            while alive(pid) and time.monotonic() < deadline:
                time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs. A zombie has ended: its parent has not read its exit status yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
