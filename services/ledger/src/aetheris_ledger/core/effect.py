"""A side effect: its state, the states it may go to, and which job may move it.

    started ──► committed ──► compensated
       │ ├────► failed ─────────► started     (any job of the tenant: the world is unchanged)
       │ └────► in_doubt ──► committed | not_executed | abandoned
       │           └──────────► started       (its own job: an idempotent tool is called again)
       └ not_executed ─────────► started      (any job of the tenant)

One row per tenant and key. The job that started the effect last owns it, and only the owner moves it on. A start by
another job is either permitted by the table or answered with the state of the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from aetheris_journal.effect import Change, EffectResolution, EffectState
from aetheris_journal.events import Resolution
from aetheris_journal.limits import VALUE_BYTES_MAX
from aetheris_kernel.errors import Conflict, Invalid

RESOLUTION_TEXT_BYTES_MAX = 8 * 1024
RESOLUTION_ACTOR_BYTES_MAX = 256


class EffectStateConflict(Conflict):
    """The effect is in a state in which this change is not possible."""

    reason = "EFFECT_STATE"


_RESTART = frozenset({EffectState.STARTED})
_NOTHING: frozenset[EffectState] = frozenset()

# The states to which the job that owns an effect may move it, by present state (None: no job has started it).
BY_OWNER: Mapping[EffectState | None, frozenset[EffectState]] = {
    None: _RESTART,
    EffectState.STARTED: frozenset({EffectState.COMMITTED, EffectState.FAILED, EffectState.IN_DOUBT}),
    EffectState.COMMITTED: frozenset({EffectState.COMPENSATED}),
    EffectState.FAILED: _RESTART,
    EffectState.IN_DOUBT: frozenset(
        {EffectState.STARTED, EffectState.COMMITTED, EffectState.NOT_EXECUTED, EffectState.ABANDONED}
    ),
    EffectState.NOT_EXECUTED: _RESTART,
    EffectState.ABANDONED: _NOTHING,
    EffectState.COMPENSATED: _NOTHING,
}
# The states to which any other job of the tenant may move it.
BY_OTHERS: Mapping[EffectState | None, frozenset[EffectState]] = {
    None: _RESTART,
    EffectState.STARTED: _NOTHING,
    EffectState.COMMITTED: _NOTHING,
    EffectState.FAILED: _RESTART,
    EffectState.IN_DOUBT: _NOTHING,
    EffectState.NOT_EXECUTED: _RESTART,
    EffectState.ABANDONED: _NOTHING,
    EffectState.COMPENSATED: _NOTHING,
}


def origins(target: EffectState, table: Mapping[EffectState | None, frozenset[EffectState]]) -> tuple[EffectState, ...]:
    """The states from which `table` permits `target`. The store checks a row against them."""
    return tuple(state for state in EffectState if target in table[state])


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect's row. All of it but the resolution follows from the chain of the job that owns it."""

    tenant: str
    key: str
    job: UUID
    seq: int  # of the commit that holds the intent
    lease: int
    tool: str
    arguments_digest: bytes
    state: EffectState
    result_digest: bytes
    outcome_seq: int  # of the commit that ended or doubted the attempt; 0 while it is started
    updated_us: int  # when the commit that moved it last was accepted
    # Left by a person or by a runner that lost the job, for the job's next holder to write into the chain.
    resolution: EffectResolution | None = None


@dataclass(frozen=True, slots=True)
class EffectMove:
    """All changes that one append makes to one effect, as one.

    If the row permits the first change, it permits all: each later change starts from the state that the one before it
    made, which `moves` has checked. So a store checks only `first` against the row.
    """

    key: str
    first: EffectState
    last: EffectState
    start: Change | None  # the last STARTED among them, which makes a new intent
    result_digest: bytes


def moves(changes: Sequence[Change]) -> Sequence[EffectMove]:
    """One move for each key, in the order of the keys' first changes. Raises Invalid where the changes contradict each
    other, so that no row could permit them."""
    if len(changes) == 1:
        return (_opening(changes[0]),)
    found: dict[str, EffectMove] = {}
    for change in changes:
        before = found.get(change.key)
        found[change.key] = _opening(change) if before is None else _continued(before, change)
    return tuple(found.values())


def _opening(change: Change) -> EffectMove:
    start = change if change.state is EffectState.STARTED else None
    return EffectMove(change.key, change.state, change.state, start, change.result_digest)


def _continued(before: EffectMove, change: Change) -> EffectMove:
    if change.state not in BY_OWNER[before.last]:
        raise Invalid(
            f"one append cannot take an effect from {before.last.name.lower()} to {change.state.name.lower()}",
            key=change.key,
        )
    start = change if change.state is EffectState.STARTED else before.start
    return EffectMove(change.key, before.first, change.state, start, change.result_digest or before.result_digest)


def permits(effect: Effect | None, job: UUID, target: EffectState) -> bool:
    if effect is None:
        return target in BY_OWNER[None]
    table = BY_OWNER if effect.job == job else BY_OTHERS
    return target in table[effect.state]


def moved(
    effect: Effect | None, move: EffectMove, *, tenant: str, job: UUID, seq: int, lease: int, time_us: int
) -> Effect:
    """The row after a permitted move. A new intent clears the outcome and the resolution of the one before it."""
    outcome_seq = 0 if move.last is EffectState.STARTED else seq
    if move.start is not None:
        return Effect(
            tenant, move.key, job, seq, lease, move.start.tool, move.start.arguments_digest,
            move.last, move.result_digest, outcome_seq, time_us,
        )  # fmt: skip
    assert effect is not None, "only a start is permitted where there is no row"
    digest = move.result_digest or effect.result_digest
    return replace(effect, state=move.last, result_digest=digest, outcome_seq=outcome_seq, updated_us=time_us)


def with_resolution(effect: Effect, resolution: EffectResolution) -> Effect | None:
    """The row with a person's resolution on it; None where the same resolution is on it already."""
    if effect.resolution is not None and effect.resolution.agrees(resolution):
        return None
    if effect.state is not EffectState.IN_DOUBT:
        raise EffectStateConflict(
            f"the effect is {effect.state.name.lower()}, and only one in doubt can be resolved",
            key=effect.key,
            state=effect.state.name,
        )
    if effect.resolution is not None:
        raise EffectStateConflict(
            "another resolution was left first and waits for the job's holder",
            key=effect.key,
            verdict=effect.resolution.kind.name,
        )
    return replace(effect, resolution=resolution)


def with_late_outcome(effect: Effect, resolution: EffectResolution, *, job: UUID, lease: int) -> Effect | None:
    """The row with the outcome that a fenced runner saw; None where that outcome decides nothing any more.

    The outcome belongs to the intent under which the tool was entered, and to no other. It may arrive before the new
    holder has recorded the doubt, so an effect that is still started takes it too.
    """
    if effect.resolution is not None or effect.state not in (EffectState.STARTED, EffectState.IN_DOUBT):
        return None
    if (effect.job, effect.lease) != (job, lease):
        return None
    return replace(effect, resolution=resolution)


def check_resolution(resolution: EffectResolution) -> None:
    """Invalid unless a holder could write the resolution into a chain."""
    if (resolution.kind is Resolution.COMMITTED) != bool(resolution.result):
        raise Invalid(
            "a result belongs to the verdict COMMITTED and to no other; a null result is `null`", field="result"
        )
    for field, size, most in (
        ("result", len(resolution.result), VALUE_BYTES_MAX),
        ("actor", len(resolution.actor.encode()), RESOLUTION_ACTOR_BYTES_MAX),
        ("note", len(resolution.text.encode()), RESOLUTION_TEXT_BYTES_MAX),
    ):
        if size > most:
            raise Invalid(f"{field} has {size} bytes, and {most} is the most", field=field)
    if "\0" in resolution.actor or "\0" in resolution.text:
        raise Invalid("a NUL character cannot be stored", field="actor" if "\0" in resolution.actor else "note")
