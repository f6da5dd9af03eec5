"""A host in another process: `python -m harness.process_host FOLDER` runs tools, and ProcessHosts asks it to.

It stands for every host that is not the runner's own process. What its tools did is a file for each key in FOLDER, so
it is counted outside the process that asks; killed inside a tool, it leaves a doubt.

    {"step": name, "arguments": …}                 ──►  {"returned": …} | {"raised": "…"}
    {"tool": name, "arguments": …, "key": "…"}     ──►  the same, after the effect
    {"verify": "…"}                                ──►  {"happened": …} | {"absent": true}
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aetheris_engine.host import EffectAbsent, EffectHappened, EffectUnclear, HostedJob, Raised, ToolEntry
from aetheris_journal.commands import CallTool, RunStep
from aetheris_journal.events import Failure


class ProcessHosts:
    """Makes a host for each job, all of them before one process, which is started again when it has died."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._asked = 0
        # After so many further tools the process kills itself inside one, after the effect.
        self.dies_in: int | None = None

    def __call__(self, job: HostedJob) -> ProcessHost:
        return ProcessHost(self)

    async def ask(self, **request: Any) -> dict[str, Any] | None:
        """The process's answer; None where it died."""
        async with self._turn:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "harness.process_host", str(self.folder),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                )  # fmt: skip
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            if "tool" in request and self.dies_in is not None:
                request["die"] = self.dies_in == 0
                self.dies_in = None if self.dies_in == 0 else self.dies_in - 1
            self._asked += 1
            request["id"] = self._asked
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            while line := await self._process.stdout.readline():
                answer: dict[str, Any] = json.loads(line)
                # An answer to an earlier request came too late for the runner that asked, which was killed.
                if answer["id"] == self._asked:
                    return answer
            await self._process.wait()
            self._process = None
            return None

    async def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()

    def calls(self) -> dict[str, int]:
        """How often each tool had its effect, by name and arguments."""
        found: dict[str, int] = {}
        for file in self.folder.iterdir():
            for line in file.read_text().splitlines():
                done = json.loads(line)
                name = f"{done['tool']} {json.dumps(done['arguments'])}"
                found[name] = found.get(name, 0) + 1
        return found


class ProcessHost:
    """`aetheris_engine.host.Host` that only sends and receives."""

    def __init__(self, hosts: ProcessHosts) -> None:
        self._hosts = hosts

    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised:
        return _returned(await self._hosts.ask(step=command.name, arguments=json.loads(command.arguments)))

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised:
        return _returned(
            await self._hosts.ask(tool=command.name, arguments=json.loads(command.arguments), key=entry.key)
        )

    def withdraw(self) -> None:
        """Nothing waits for its turn here."""

    def inside(self, key: str) -> bool:
        return False

    async def verify(self, command: CallTool, key: str) -> EffectHappened | EffectAbsent | EffectUnclear:
        answer = await self._hosts.ask(verify=key)
        if answer is None:
            return EffectUnclear("the host died")
        return EffectAbsent() if "absent" in answer else EffectHappened(json.dumps(answer["happened"]).encode())

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        return CallTool(command.compensate, result, can_verify=True)


def _returned(answer: dict[str, Any] | None) -> bytes | Raised:
    if answer is None:
        return Raised(Failure("HostDied", "the host died"), "its host died")
    if "raised" in answer:
        return Raised(Failure("ToolRefused", answer["raised"]), answer["raised"], unchanged=True)
    return json.dumps(answer["returned"]).encode()


def serve(folder: Path) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({**_answer(folder, asked), "id": asked["id"]}), flush=True)  # noqa: T201 - its way to answer


def _answer(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    if "verify" in asked:
        file = folder / asked["verify"]
        return (
            {"happened": json.loads(file.read_text().splitlines()[0])["result"]} if file.exists() else {"absent": True}
        )
    if "step" in asked:
        return {"returned": f"{asked['step']} of {asked['arguments']}"}
    if asked["tool"] == "refuses":
        return {"raised": "no such account"}
    result = f"did {asked['tool']} {len(list(folder.iterdir()))}"
    done = {"tool": asked["tool"], "arguments": asked["arguments"], "result": result}
    with (folder / asked["key"]).open("a") as file:
        file.write(json.dumps(done) + "\n")
    if asked.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"returned": result}


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
