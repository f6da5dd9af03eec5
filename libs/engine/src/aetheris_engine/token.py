"""Tokens that end a wait: minted at the gateway, recorded, given away, and waited for as a signal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aetheris.awakeables import Awakeable, read_completion, read_token, write_token
from aetheris_journal import events as e
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_engine.execution import Stage
from aetheris_engine.wait import away, moment_after, wait_until


async def make(stage: Stage, path: str, timeout: timedelta | None) -> Awakeable:
    """A token leaves the agent only through a tool, so its record is durable before anybody holds it."""
    record = await stage.recorded(lambda replay: replay.value(path, e.ValueKind.TOKEN))
    name = stage.named(path)
    if record is not None:
        return read_token(name, record.value)
    if stage.gated:
        await stage.gate()
    deadline = moment_after(stage, timeout)
    handle = Awakeable("", name, deadline)
    while True:
        try:
            token = await stage.hands.desk.mint(stage.assignment, handle.key, deadline)
            break
        except Unavailable:
            await away(stage, path, "token")
        except Refusal as refusal:
            await stage.halt(RuntimeError(f"the gateway signs no token: {refusal.message}"))
    value = write_token(token, deadline)
    stage.scribe.record(e.ValueRecorded(path, e.ValueKind.TOKEN, value, at=stage.now()), value_bytes=len(value))
    return read_token(name, value)


async def wait(stage: Stage, path: str, handle: Awakeable) -> Any:
    """What somebody said with the token. Whoever waits a second time hears the same."""
    completed = await wait_until(stage, path, e.WaitKind.SIGNAL, handle.key, lambda: handle.deadline)
    return read_completion(completed.payload, timed_out=completed.timed_out)
