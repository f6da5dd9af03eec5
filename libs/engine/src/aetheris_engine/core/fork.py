"""A fork's history: the events that it copies from another job, and the calls that the other job made after them.

    source   ── a ── b ── pay ──┃── c ── mail ── …
                      copied    ┃  the abandoned rest
    fork     ── a ── b ── pay ──┃── d ── mail?   reuse its result · ask a person · block it

The copies depend only on the source's chain up to the cut. So a runner that takes the fork over in the middle of the
copying counts the copies that are there and continues behind them. Of an effect only the outcome is copied, in the form
of a result that another job recorded, because the ledger keeps no second row for it. An effect without an outcome at
the cut is not copied.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from aetheris_journal import events as e
from aetheris_journal.effect import effect_key
from aetheris_journal.path import COMPENSATION
from aetheris_journal.replay import Replay

_BUSINESS_KEY = "once:"
# By its class name, because the engine does not import the SDK. A runner of Python agents has the class loaded.
_ABANDONED = "aetheris.errors:EffectAbandoned"
# This text is recorded, and a replay compares it: it never changes.
_MADE_ELSEWHERE = "nobody knows whether it happened in the job that was forked, and it was given up on"
_OWN = (e.JobCreated, e.JobLeased, e.JobCompleted, e.JobFailed, e.JobCancelled)
_EFFECT = (e.EffectStarted, e.EffectCommitted, e.EffectFailed, e.EffectInDoubt, e.EffectResolved)


@dataclass(frozen=True, slots=True)
class Fork:
    source: UUID
    at_seq: int
    effects: str  # reuse, ask or block
    before_path: str = ""


@dataclass(slots=True)
class _Call:
    """One effect of the source: its last intent and its outcome."""

    started: e.EffectStarted
    outcome: e.EffectCommitted | e.EffectFailed | None = None
    # The outcome is not known: still in doubt, or abandoned by a person.
    unknown: bool = True
    abandoned: e.EffectResolved | None = None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A call that the source made, or may have made, after the cut."""

    path: str
    result: bytes | None  # None: the call may have happened, and its result is unknown


class Rest:
    """The source's effects after the cut. Each of them is matched with one call of the fork that has the same name and
    arguments."""

    def __init__(self, made: Iterable[tuple[tuple[str, bytes], Made]], own: Iterable[e.Event]) -> None:
        self._made: defaultdict[tuple[str, bytes], list[Made]] = defaultdict(list)
        for call, found in made:
            self._made[call].append(found)
        # In earlier runs of the fork, each path that made such a call has taken one of them.
        calls = {
            (event.path, event.name, event.arguments)
            for event in own
            if isinstance(event, e.EffectStarted) or (isinstance(event, e.EffectCommitted) and event.recorded_job_id)
        }
        self._taken = Counter((name, arguments) for _, name, arguments in calls)

    def take(self, name: str, arguments: bytes) -> Made | None:
        call = (name, arguments)
        place = self._taken[call]
        self._taken[call] += 1
        return self._made[call][place] if place < len(self._made[call]) else None


@dataclass(frozen=True, slots=True)
class CopiedHistory:
    """The events that a fork copies, and the source's calls after the cut."""

    copies: Sequence[e.Event]
    made: Sequence[tuple[tuple[str, bytes], Made]]

    def missing(self, own: Sequence[e.Event]) -> Sequence[e.Event]:
        """The copies that are not in the fork's chain yet. `own` are the events of that chain."""
        return self.copies[self._present(own) :]

    def rest(self, own: Sequence[e.Event]) -> Rest:
        said = [event for event in own if not isinstance(event, _OWN)]
        return Rest(self.made, said[self._present(own) :])

    def _present(self, own: Sequence[e.Event]) -> int:
        said = [event for event in own if not isinstance(event, _OWN)]
        if said and isinstance(said[0], e.CheckpointSaved) and (not self.copies or said[0] != self.copies[0]):
            return len(self.copies)  # the fork has saved a checkpoint of its own, so all copies are behind it
        return min(len(said), len(self.copies))


def history(fork: Fork, job: UUID, source: Iterable[tuple[int, Sequence[e.Event]]]) -> CopiedHistory:
    kept, rest = _split(fork, source)
    begin = max((at for at, event in enumerate(kept) if isinstance(event, e.CheckpointSaved)), default=0)
    earlier, kept = kept[:begin], kept[begin:]
    settled = _settled(_calls(kept).values())
    copies = _copied(kept, settled, fork.source, job)
    known = settled | _settled(_calls(earlier).values())
    calls = _calls([*earlier, *kept, *rest])
    made = [
        ((call.started.name, call.started.arguments), Made(call.started.path, _result(call)))
        for key, call in calls.items()
        if key not in known and not call.undone and (call.unknown or isinstance(call.outcome, e.EffectCommitted))
    ]
    return CopiedHistory(copies, made)


def _result(call: _Call) -> bytes | None:
    match call.outcome:
        case e.EffectCommitted(result=result, too_large=False) if not call.unknown:
            return result
    return None


def _split(fork: Fork, source: Iterable[tuple[int, Sequence[e.Event]]]) -> tuple[list[e.Event], list[e.Event]]:
    kept: list[e.Event] = []
    rest: list[e.Event] = []
    for seq, events in source:
        if seq < fork.at_seq:
            kept += events
        elif seq > fork.at_seq:
            rest += events
        else:
            end = _end(events, fork.before_path)
            kept += events[:end]
            rest += events[end:]
    return kept, rest


def _end(events: Sequence[e.Event], before_path: str) -> int:
    """How many events of the last commit are copied. Paths start again at 0 after a checkpoint, so the search begins
    behind the last one."""
    if not before_path:
        return len(events)
    begin = max((at for at, event in enumerate(events) if isinstance(event, e.CheckpointSaved)), default=0)
    places = range(begin, len(events))
    return next((at for at in places if getattr(events[at], "path", None) == before_path), len(events))


def _calls(events: Iterable[e.Event]) -> dict[str, _Call]:
    """The source's calls by their keys, in the order of their first intents."""
    calls: dict[str, _Call] = {}
    for event in events:
        if getattr(event, "path", "").startswith(COMPENSATION):
            continue
        match event:
            case e.EffectStarted(key=key):
                known = calls.get(key)
                calls[key] = _Call(event)
                if known is not None:
                    calls[key].undone = known.undone
            case e.EffectCommitted(key=key, recorded_job_id=str(other)) if other:
                started = e.EffectStarted(event.path, event.name, event.arguments, key, event.attempt, at=event.at)
                calls[key] = _Call(started, event, unknown=False)
            case e.EffectCommitted(key=key) | e.EffectFailed(key=key) if key in calls:
                call = calls[key]
                call.outcome, call.unknown = event, False
            case e.EffectResolved(key=key) if key in calls:
                _resolve(calls[key], event)
            case e.CompensationStarted(key=key) if key in calls:
                calls[key].unknown = True
            case e.StepCompensated(key=key) if key in calls:
                calls[key].undone = True
    return calls


def _resolve(call: _Call, event: e.EffectResolved) -> None:
    match event.verdict:
        case e.Resolution.COMMITTED:
            call.unknown = False
            call.outcome = e.EffectCommitted(
                event.path, event.key, event.result, call.started.attempt, timedelta(0), at=event.at
            )
        case e.Resolution.NOT_EXECUTED:
            call.outcome, call.unknown = None, False
        case _:
            call.abandoned, call.unknown = event, True


def _settled(calls: Iterable[_Call]) -> dict[str, _Call]:
    """The calls whose outcome the agent has received."""
    return {call.started.key: call for call in calls if _seen(call)}


def _seen(call: _Call) -> bool:
    if call.abandoned is not None:
        return True
    match call.outcome:
        case e.EffectCommitted():
            return True
        case e.EffectFailed(retry_at=None):
            # An effect under a business key that failed may have been made by another job since, so the fork makes the
            # call again.
            return not call.started.key.startswith(_BUSINESS_KEY)
    return False


def _copied(kept: Sequence[e.Event], settled: dict[str, _Call], source: UUID, job: UUID) -> list[e.Event]:
    copies: list[e.Event] = []
    # A child that had not ended at the cut is not copied: the fork starts its own.
    ended = {event.child_job_id for event in kept if isinstance(event, e.ChildCompleted)}
    round_ = 0
    for event in kept:
        path = getattr(event, "path", "")
        match event:
            case _ if isinstance(event, _OWN) or path.startswith(COMPENSATION):
                continue
            case e.CompensationStarted() | e.StepCompensated():
                continue
            case e.ChildStarted(child_job_id=child) if child not in ended:
                continue
            case e.JobWaiting(path="") | e.WaitCompleted(path=""):
                continue
            case e.JobWaiting(kind=e.WaitKind.CHILD, name=child) if child not in ended:
                continue
            case e.CheckpointSaved():
                copies.append(replace(event, carried=_without_children(event.carried)))
                round_ = Replay(copies).round
            case _ if isinstance(event, _EFFECT):
                call = settled.get(event.key)
                if call is not None and event is _last(call, event):
                    copies += _outcome(call, source, job, f"{path}@{round_}" if round_ else path)
            case _:
                copies.append(event)
    return copies


def _without_children(carried: bytes) -> bytes:
    """The checkpoint's carried state without children: the source's children belong to the source, and a fork neither
    waits for them nor cancels them."""
    told = json.loads(carried or b"{}")
    if not told.get("children") and not told.get("submitted"):
        return carried
    return json.dumps(told | {"children": [], "submitted": {}}, ensure_ascii=False, separators=(",", ":")).encode()


def _last(call: _Call, event: e.Event) -> e.Event | None:
    """The event that settled the call. A resolution is found by its time, because the outcome was made from it."""
    if call.abandoned is not None:
        return call.abandoned
    if isinstance(event, e.EffectResolved) and isinstance(call.outcome, e.EffectCommitted):
        return event if call.outcome.at == event.at else None
    return call.outcome


def _outcome(call: _Call, source: UUID, job: UUID, named: str) -> list[e.Event]:
    started, key = call.started, call.started.key
    if not key.startswith(_BUSINESS_KEY):
        key = effect_key(job, named, started.name, started.arguments, None)
    if isinstance(call.outcome, e.EffectCommitted) and call.abandoned is None:
        return [
            replace(
                call.outcome,
                key=key,
                recorded_job_id=call.outcome.recorded_job_id or str(source),
                name=started.name,
                arguments=started.arguments,
            )
        ]
    begun = replace(started, key=key, attempt=1, compensate="")
    if isinstance(call.outcome, e.EffectFailed) and call.abandoned is None:
        return [begun, replace(call.outcome, key=key, attempt=1)]
    failure = e.Failure(_ABANDONED, _MADE_ELSEWHERE)
    return [begun, e.EffectFailed(started.path, key, failure, 1, timedelta(0), at=started.at)]
