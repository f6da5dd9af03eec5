"""Tokens that end a wait: signed by the gateway, recorded, given to another system by a tool, and waited for as a
signal."""

from __future__ import annotations

import json
from datetime import datetime

from aetheris_journal import events as e
from aetheris_journal.commands import AwaitToken, MakeToken, Settled
from aetheris_kernel.errors import Refusal

from aetheris_engine.core.waits import TOKEN
from aetheris_engine.execution import Execution
from aetheris_engine.ports import UNANSWERED
from aetheris_engine.wait import away, deadline_after, wait_for


async def make(execution: Execution, path: str, command: MakeToken) -> Settled:
    """Get a token signed and record it. The program can give it away only through a tool, whose intent makes the
    token's record durable first."""
    record = await execution.recorded(lambda replay: replay.value(path, e.ValueKind.TOKEN))
    if record is not None:
        return Settled(record.value)
    if execution.gated:
        await execution.gate(path)
    deadline = deadline_after(execution, command.timeout)
    key = TOKEN + execution.named(path)
    while True:
        try:
            token = await execution.services.approvals.mint(execution.assignment, key, deadline)
            break
        except UNANSWERED:
            await away(execution, path, "token")
        except Refusal as refusal:
            await execution.halt(RuntimeError(f"the gateway signs no token: {refusal.message}"))
    value = _written(token, deadline)
    execution.record(e.ValueRecorded(path, e.ValueKind.TOKEN, value, at=execution.now()))
    return Settled(value)


async def wait(execution: Execution, path: str, command: AwaitToken) -> Settled:
    """Wait for the content that is sent with the token. Every wait for the same token gets the same content."""
    return await wait_for(execution, path, e.WaitKind.SIGNAL, TOKEN + command.place, lambda: command.deadline)


def _written(token: str, deadline: datetime | None) -> bytes:
    said = {"deadline": None if deadline is None else deadline.isoformat(), "token": token}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
