"""Side effects in the record: their states, the events that change them, and their keys.

started ──► committed ──► compensated
   │ ├────► failed(world unchanged) ──► started
   │ └────► in_doubt ──► committed | not_executed | abandoned
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from uuid import UUID

from aetheris_journal import events as e


class EffectState(IntEnum):
    """As stored and as sent."""

    STARTED = 1
    COMMITTED = 2
    FAILED = 3
    IN_DOUBT = 4
    NOT_EXECUTED = 5
    ABANDONED = 6
    COMPENSATED = 7


STATE_OF_RESOLUTION: Mapping[e.Resolution, EffectState] = {
    e.Resolution.COMMITTED: EffectState.COMMITTED,
    e.Resolution.NOT_EXECUTED: EffectState.NOT_EXECUTED,
    e.Resolution.ABANDONED: EffectState.ABANDONED,
}


@dataclass(frozen=True, slots=True)
class EffectResolution:
    """The resolution of an effect in doubt, left at the ledger by a person or by the runner that lost the job.

    The runner that holds the job next writes it into the chain as `EffectResolved`.
    """

    kind: e.Resolution
    source: e.Source
    result: bytes = b""  # with COMMITTED
    actor: str = ""  # the person who resolved it
    text: str = ""  # the person's reason, or the failure that the tool raised
    time_us: int = 0  # when the ledger stored it; 0 in a runner

    def agrees(self, other: EffectResolution) -> bool:
        """Whether both resolutions say the same about the effect; their author and reason may differ."""
        return (self.kind, self.result) == (other.kind, other.result)


@dataclass(frozen=True, slots=True)
class Change:
    """One effect's change to one state, as the ledger stores it beside a commit."""

    key: str
    state: EffectState
    tool: str = ""  # with STARTED
    arguments_digest: bytes = b""  # with STARTED
    result_digest: bytes = b""  # with COMMITTED


# What a business key begins with.
_BUSINESS = "once:"


def effect_key(job: UUID, path: str, tool: str, arguments: bytes, once: str | None) -> str:
    """The effect's key. By default it names this call in this job, on every attempt. A business key names the thing
    that is done, in every job of the tenant."""
    if once is not None:
        return f"{_BUSINESS}{tool}:{once}"
    digest = sha256()
    for part in (job.bytes, path.encode(), tool.encode(), arguments):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest()


def is_business_key(key: str) -> bool:
    return key.startswith(_BUSINESS)


def change_of(event: e.Event) -> Change | None:
    """The change that an event makes to the ledger's row of an effect."""
    match event:
        case e.EffectStarted(name=tool, arguments=arguments, key=key):
            return Change(key, EffectState.STARTED, tool=tool, arguments_digest=sha256(arguments).digest())
        case e.EffectCommitted(key=key, result=result, recorded_job_id=""):
            return Change(key, EffectState.COMMITTED, result_digest=sha256(result).digest())
        case e.EffectFailed(key=key):
            return Change(key, EffectState.FAILED)
        case e.EffectInDoubt(key=key):
            return Change(key, EffectState.IN_DOUBT)
        case e.EffectResolved(key=key, verdict=e.Resolution.COMMITTED, result=result):
            return Change(key, EffectState.COMMITTED, result_digest=sha256(result).digest())
        case e.EffectResolved(key=key, verdict=resolution):
            return Change(key, STATE_OF_RESOLUTION[resolution])
        case e.StepCompensated(key=key) if key:
            return Change(key, EffectState.COMPENSATED)
    return None
