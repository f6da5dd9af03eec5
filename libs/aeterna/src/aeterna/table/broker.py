"""The broker's table: which process owns the state, at every moment of one hand-over.

One rule carries the rest. Until RELEASE is sent, every failure gives the state back to the giver. From then on the
taker may own, and the giver gets the state back only when the taker has been reaped; a silent taker may still live.

    GATHERING ─▶ EXPORTING ─▶ VERIFYING ─▶ PREPARED ─▶ COMMITTING ─▶ INSTALLED ─▶ RELEASING ─▶ SOAKING ─▶ OVER
        └───────────┴─────────────┴───────────┴────────────┴────────────┘            │           │
                                  ▼ giver resumes                                    ▼           ▼
                                HELD ─▶ cold, or OVER                             FENCING ─▶ giver resumes, OVER

The supervisor orders COMMIT and RELEASE. A hand-over without a giver (`alone`) needs no order: no other process could
own the state.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Reason


class BrokerState(Enum):
    """How far one hand-over has come."""

    GATHERING = auto()  # one of the two has not said HELLO
    EXPORTING = auto()  # PREPARE is sent
    VERIFYING = auto()  # the taker has received everything, or has been told that there is nothing
    PREPARED = auto()  # the supervisor decides about COMMIT
    COMMITTING = auto()
    INSTALLED = auto()  # the supervisor decides about RELEASE
    HOLDING = auto()  # RELEASE is ordered, but the giver hung up and is not known to be dead
    RELEASING = auto()
    FENCING = auto()  # the taker failed after RELEASE and must be dead before the giver resumes
    HELD = auto()  # failed; the taker waits until the supervisor says SKIP (begin cold) or ABORT
    SOAKING = auto()  # the taker owns; the giver stands by
    OVER = auto()


class GiverPresence(Enum):
    """The giver's process, as far as the broker knows."""

    AWAITED = auto()  # alive and not connected
    HERE = auto()
    ABSENT = auto()  # alive, takes no part
    LOST = auto()  # hung up in the middle; death is not proven
    GONE = auto()  # reaped, or there never was a giver


class BrokerAction(Enum):
    """Messages the broker sends, and the one thing it does."""

    SEND_PREPARE = auto()
    SEND_STORED = auto()  # the stored checkpoint, or COLD if there is none
    SEND_COLD_KEEP = auto()  # COLD, and the taker keeps the connections it has received
    SEND_COMMIT = auto()
    SEND_RELEASE = auto()
    SEND_DONE = auto()
    ABORT_TAKER = auto()
    RESUME_GIVER = auto()
    FENCE_TAKER = auto()  # kill it; the reaper's report continues the hand-over


class Owner(Enum):
    """Which process owns the state after a failure."""

    GIVER = auto()
    TAKER = auto()
    NEITHER = auto()


@dataclass(frozen=True, slots=True)
class Tell:
    """Report a step to the supervisor."""

    event: HandoverEvent


@dataclass(frozen=True, slots=True)
class TellFailure:
    """Report FAILED to the supervisor."""

    reason: Reason
    owner: Owner


Action = BrokerAction | Tell | TellFailure


@dataclass(frozen=True, slots=True)
class Ownership:
    """One hand-over, as far as it has come."""

    giver: GiverPresence
    taker_here: bool
    state: BrokerState = BrokerState.GATHERING
    alone: bool = False  # without a giver: the taker begins with a checkpoint or empty
    cold: bool = False
    reason: Reason = Reason.SUCCESSOR_DIED  # why the taker is being fenced


Advance = tuple[Ownership, tuple[Action, ...]]
S, H, A, P = BrokerState, HandoverEvent, BrokerAction, GiverPresence

REVERSIBLE = frozenset(
    {S.GATHERING, S.EXPORTING, S.VERIFYING, S.PREPARED, S.COMMITTING, S.INSTALLED, S.HOLDING, S.HELD}
)


def begin(giver: GiverPresence, *, taker_here: bool) -> Advance:
    """The first state of a hand-over."""
    return _gathered(Ownership(giver, taker_here))


def advance(current: Ownership, event: HandoverEvent, reason: Reason = Reason.ABORTED) -> Advance:
    """The next state and its actions. An event that means nothing in this state changes nothing."""
    if event in (H.GIVER_JOINED, H.GIVER_HUNG_UP, H.GIVER_DIED):
        return _giver(current, event)
    if event in (H.TAKER_HUNG_UP, H.TAKER_DIED):
        return _taker_failed(current, event)
    match current.state, event:
        case S.GATHERING, H.TAKER_JOINED:
            return _gathered(replace(current, taker_here=True))
        case S.EXPORTING, H.END:
            return replace(current, state=S.VERIFYING), ()
        case S.VERIFYING, H.PREPARED:
            if current.alone:
                return replace(current, state=S.COMMITTING), (A.SEND_COMMIT,)
            return replace(current, state=S.PREPARED), (Tell(H.PREPARED),)
        case S.PREPARED, H.COMMIT:
            return replace(current, state=S.COMMITTING), (A.SEND_COMMIT, Tell(H.COMMITTED))
        case S.COMMITTING, H.INSTALLED:
            if current.alone:
                return replace(current, state=S.RELEASING), (A.SEND_RELEASE,)
            return replace(current, state=S.INSTALLED), (Tell(H.INSTALLED),)
        case S.INSTALLED, H.RELEASE:
            if current.giver is P.LOST:
                return replace(current, state=S.HOLDING), ()
            return replace(current, state=S.RELEASING), (A.SEND_RELEASE,)
        case S.RELEASING, H.READY:
            done: tuple[Action, ...] = (A.SEND_DONE,) if current.giver is P.HERE else ()
            tell = Tell(H.SKIPPED if current.alone else H.READY)
            return replace(current, state=S.SOAKING), (*done, tell)
        case S.HELD, H.SKIP:
            return replace(current, state=S.VERIFYING, alone=True, cold=True), (A.SEND_STORED,)
        case S.SOAKING, H.FINISH:
            return replace(current, state=S.OVER), ()
    return _failed(current, event, reason)


def _gathered(current: Ownership) -> Advance:
    if not current.taker_here or current.giver is P.AWAITED:
        return current, ()
    if current.giver is P.HERE:
        return replace(current, state=S.EXPORTING), (A.SEND_PREPARE,)
    return replace(current, state=S.VERIFYING, alone=True, cold=True), (A.SEND_STORED,)


def _giver(current: Ownership, event: HandoverEvent) -> Advance:
    state = current.state
    if event is H.GIVER_JOINED:
        if current.giver is not P.AWAITED:
            return current, ()
        return _gathered(replace(current, giver=P.HERE))
    if event is H.GIVER_HUNG_UP:
        if current.giver is not P.HERE:
            return current, ()
        if state in (S.GATHERING, S.HELD):
            return _gathered_or_same(replace(current, giver=P.ABSENT))
        return replace(current, giver=P.LOST), ()
    if current.giver is P.GONE:
        return current, ()
    current = replace(current, giver=P.GONE)
    if state is S.EXPORTING:
        return replace(current, state=S.VERIFYING, cold=True), (A.SEND_COLD_KEEP,)
    if state is S.HOLDING:
        return replace(current, state=S.RELEASING), (A.SEND_RELEASE,)
    return _gathered_or_same(current)


def _gathered_or_same(current: Ownership) -> Advance:
    return _gathered(current) if current.state is S.GATHERING else (current, ())


def _taker_failed(current: Ownership, event: HandoverEvent) -> Advance:
    gone = event is H.TAKER_DIED
    reason = Reason.SUCCESSOR_DIED if gone else Reason.SUCCESSOR_HUNG_UP
    if current.state is S.HELD:
        return replace(current, state=S.OVER), ()
    if current.state in REVERSIBLE:
        held, actions = _back(current, reason)
        return replace(held, state=S.OVER), (A.ABORT_TAKER, *actions)
    if current.state is S.RELEASING:
        return _regained(current, reason) if gone else _fence(current, reason)
    if current.state is S.FENCING and gone:
        return _regained(current, current.reason)
    if current.state is S.SOAKING and gone:
        return _regained(current, reason)
    return current, ()


def _failed(current: Ownership, event: HandoverEvent, reason: Reason) -> Advance:
    state = current.state
    if event is H.LATE:
        reason = _why_late(current)
    elif event not in (H.REFUSED, H.EXPORT_FAILED, H.ABORT):
        return current, ()
    if state is S.HELD:
        if event in (H.ABORT, H.LATE):
            return replace(current, state=S.OVER), (A.ABORT_TAKER,)
        return current, ()
    if state in REVERSIBLE:
        held, actions = _back(current, reason)
        if event is H.ABORT:
            return replace(held, state=S.OVER), (A.ABORT_TAKER, *actions)
        return held, actions
    if state is S.RELEASING:
        return _fence(current, reason)
    if state is S.FENCING and event is H.LATE:
        return current, (A.FENCE_TAKER,)
    return current, ()


def _why_late(current: Ownership) -> Reason:
    if current.giver is P.LOST:
        return Reason.PREDECESSOR_HUNG_UP
    return Reason.DUMP_TIMEOUT if current.state is S.EXPORTING else Reason.LATE


def _fence(current: Ownership, reason: Reason) -> Advance:
    return replace(current, state=S.FENCING, reason=reason), (A.FENCE_TAKER,)


def _back(current: Ownership, reason: Reason) -> Advance:
    """The giver owns again. A giver that hung up reads the claim itself; after a giver that died no process owns."""
    resume: tuple[Action, ...] = (A.RESUME_GIVER,) if current.giver is P.HERE else ()
    return replace(current, state=S.HELD), (*resume, TellFailure(reason, _owner(current)))


def _regained(current: Ownership, reason: Reason) -> Advance:
    """The taker, which may have owned, is dead."""
    resume: tuple[Action, ...] = (A.RESUME_GIVER,) if current.giver is P.HERE else ()
    return replace(current, state=S.OVER), (*resume, TellFailure(reason, _owner(current)))


def _owner(current: Ownership) -> Owner:
    return Owner.NEITHER if current.giver is P.GONE else Owner.GIVER
