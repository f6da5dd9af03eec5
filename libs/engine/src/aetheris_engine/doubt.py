"""An effect in doubt, and the ways out of it, the surest first (`core.doubt.way_out`).

a resolution at the ledger ──► take it        a person said it, or the former holder reported it late
the host can verify        ──► ask the world
the tool is idempotent     ──► call it again under the same key
none of these              ──► park until a person resolves it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aetheris_journal import events as e
from aetheris_journal.commands import Backoff, CallTool
from aetheris_journal.effect import EffectResolution

from aetheris_engine.core.doubt import AskPerson, AskWorld, CallAgain, TakeResolution, way_out
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.host import EffectAbsent, EffectHappened

# How an idempotent tool that left a doubt is called again if its author set no retry policy.
_AGAIN = Backoff(8, timedelta(seconds=0.5), 2.0, timedelta(seconds=10), 0.0)


@dataclass(frozen=True, slots=True)
class EnterAgain:
    """Call the tool again under the same key, at that moment; at once where there is none."""

    at: datetime | None


async def resolve(
    execution: Execution,
    path: str,
    command: CallTool,
    key: str,
    *,
    tries: int,
    next_attempt: Callable[[Backoff], datetime | None] | None,
) -> EffectResolution | EnterAgain:
    """Try the ways out until one succeeds. `next_attempt` says when a failed attempt may be followed by another; it is
    None if the doubt comes from an earlier run."""
    can_verify, idempotent = command.can_verify, command.idempotent
    backoff = command.backoff or _AGAIN
    while True:
        resolution = await execution.resolutions.of(key)
        match way_out(
            resolution, can_verify=can_verify, idempotent=idempotent, attempt=tries, attempts_max=backoff.attempts
        ):
            case TakeResolution(resolution=found):
                return found
            case AskWorld():
                match await execution.host.verify(command, key):
                    case EffectHappened(result=result):
                        return EffectResolution(e.Resolution.COMMITTED, e.Source.VERIFY, result)
                    # A call that timed out may still be running in its thread. Until it ends, an absent effect is no
                    # proof that it will not happen.
                    case EffectAbsent() if not execution.host.inside(key):
                        return EffectResolution(e.Resolution.NOT_EXECUTED, e.Source.VERIFY)
                can_verify = False
            case CallAgain():
                if next_attempt is None:
                    return EnterAgain(None)
                again_at = next_attempt(backoff)
                if again_at is not None:
                    return EnterAgain(again_at)
                idempotent = False
            case AskPerson():
                await execution.wait(Wait(path, e.WaitKind.OPERATOR, f"in doubt: {command.name}", None))
                can_verify = command.can_verify
