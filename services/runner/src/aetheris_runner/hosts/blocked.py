"""The host of a job whose step has blocked a user loop: that attempt is not made again, it has failed.

A module of its own because it stands in front of any host, and only for jobs to which that has happened.
"""

from __future__ import annotations

from aetheris_engine import ports
from aetheris_engine.host import (
    EffectAbsent,
    EffectHappened,
    EffectUnclear,
    Host,
    HostedJob,
    HostFor,
    NotEntered,
    Raised,
    ReturnedTooMuch,
    ToolEntry,
)
from aetheris_journal.commands import CallTool, RunStep


def after_blocking(host_for: HostFor, blocked: ports.Blocked) -> HostFor:
    def made(job: HostedJob) -> Host:
        return _AfterBlocking(host_for(job), blocked)

    return made


class _AfterBlocking:
    def __init__(self, host: Host, blocked: ports.Blocked) -> None:
        self._host, self._blocked = host, blocked

    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised | NotEntered:
        if (path, attempt) == (self._blocked.path, self._blocked.attempt):
            return Raised(self._blocked.failure, final=self._blocked.final)
        return await self._host.step(command, path, attempt)

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised | ReturnedTooMuch | NotEntered:
        return await self._host.tool(command, entry)

    def withdraw(self) -> None:
        self._host.withdraw()

    def inside(self, key: str) -> bool:
        return self._host.inside(key)

    async def verify(self, command: CallTool, key: str) -> EffectHappened | EffectAbsent | EffectUnclear:
        return await self._host.verify(command, key)

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        return self._host.undoing(command, result)
