"""Runner processes: started, watched, started again when they die.

Each has a pid file, so that a person can cause a crash: `kill -9 $(cat .aetheris/run/runner-1.pid)`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from aetheris_kernel.errors import Unavailable

from aetheris_embedded.child_process import die_with_parent

log = structlog.get_logger()

_PAUSE_S, _PAUSE_MAX_S = 0.1, 10.0


class Supervisor:
    """Keeps one runner process alive while `run` is awaited. When that is cancelled, it ends the process: SIGTERM, then
    SIGKILL."""

    def __init__(self, name: str, environment: Mapping[str, str], run_dir: Path, *, drain_s: float) -> None:
        self.name = name
        self._environment = {
            **environment,
            "AETHERIS_RUNNER_ID": name,
            "AETHERIS_LISTEN": f"unix:{run_dir / name}.sock",
        }
        self._pid_file = run_dir / f"{name}.pid"
        self._drain_s = drain_s
        # Set once the scheduler has the runner's session. A runner that fails before that is not started again.
        self.seen = asyncio.Event()

    async def run(self) -> None:
        pause_s = _PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            code = await self._once()
            if code > 0 and not self.seen.is_set():
                raise Unavailable(f"{self.name} does not start; its output above says why")
            lived_s = asyncio.get_running_loop().time() - began
            pause_s = _PAUSE_S if lived_s > _PAUSE_MAX_S else min(pause_s * 2, _PAUSE_MAX_S)
            log.warning("runner ended", runner_id=self.name, exit_code=code, again_in_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aetheris_runner",
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C must reach this process only, which then stops the runners before the services that they need.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        self._pid_file.write_text(f"{process.pid}\n")
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await self._end(process)
            self._pid_file.unlink(missing_ok=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(self._drain_s):
                await process.wait()
        except TimeoutError:
            log.warning("runner killed", runner_id=self.name, drain_s=self._drain_s)
        finally:
            if process.returncode is None:
                process.kill()
