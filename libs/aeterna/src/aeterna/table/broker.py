"""The broker's decision: whose it is, at every moment of one hand-over.

One rule carries the rest. Until RELEASE is sent every failure leads back to the giver; from then on the taker may
own, and the giver gets it back only when the taker is dead, reaped, not just silent.

    GATHERING ─▶ EXPORTING ─▶ VERIFYING ─▶ PREPARED ─▶ COMMITTING ─▶ INSTALLED ─▶ RELEASING ─▶ SOAKING ─▶ OVER
        └───────────┴─────────────┴───────────┴────────────┴────────────┘            │           │
                                  ▼ giver resumes                                    ▼           ▼
                                HELD ─▶ cold, or OVER                             FENCING ─▶ giver resumes, OVER

The supervisor says COMMIT and RELEASE. A session without a giver (`alone`) needs no such word: nobody else could own.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from aeterna.table.reasons import Reason


class S(Enum):
    GATHERING = auto()  # one of the two has not said HELLO
    EXPORTING = auto()  # PREPARE is sent
    VERIFYING = auto()  # the taker has everything, or knows that there is nothing
    PREPARED = auto()  # the supervisor decides
    COMMITTING = auto()
    INSTALLED = auto()  # the supervisor decides once more
    HOLDING = auto()  # it has, but the giver hung up and is not known to be dead
    RELEASING = auto()
    FENCING = auto()  # the taker failed after RELEASE and must be dead before the giver resumes
    HELD = auto()  # failed; the taker waits for the verdict: cold, or out
    SOAKING = auto()
    OVER = auto()


class Giver(Enum):
    AWAITED = auto()  # alive and not connected
    HERE = auto()
    ABSENT = auto()  # alive, takes no part
    LOST = auto()  # hung up in the middle; death is not proven
    GONE = auto()  # reaped, or there never was one


class E(Enum):
    GIVER_JOINED = auto()
    TAKER_JOINED = auto()
    ENDED = auto()
    PREPARED = auto()
    COMMIT = auto()  # an order
    INSTALLED = auto()
    RELEASE = auto()  # an order
    READY = auto()
    REFUSED = auto()  # by the taker
    EXPORT_FAILED = auto()  # by the giver, or by the broker's checks of what it sent
    GIVER_LOST = auto()
    GIVER_GONE = auto()
    TAKER_LOST = auto()
    TAKER_GONE = auto()
    ABORT = auto()  # an order
    SKIP = auto()  # an order: after a failure, begin cold
    LATE = auto()
    FINISH = auto()  # an order


class Do(Enum):
    SEND_PREPARE = auto()
    SEND_STORED = auto()  # the checkpoint that is kept, or COLD if there is none
    SEND_COLD_KEEP = auto()
    SEND_COMMIT = auto()
    SEND_RELEASE = auto()
    SEND_DONE = auto()
    ABORT_TAKER = auto()
    RESUME_GIVER = auto()
    FENCE_TAKER = auto()
    TELL_PREPARED = auto()
    TELL_COMMITTED = auto()
    TELL_INSTALLED = auto()
    TELL_READY = auto()
    TELL_SKIPPED = auto()


class Owner(Enum):
    GIVER = auto()
    TAKER = auto()
    NOBODY = auto()


@dataclass(frozen=True, slots=True)
class Fail:
    reason: Reason
    owner: Owner


Action = Do | Fail


@dataclass(frozen=True, slots=True)
class Session:
    giver: Giver
    taker_here: bool
    state: S = S.GATHERING
    alone: bool = False  # nobody hands over: the taker begins with a checkpoint or with nothing
    cold: bool = False
    reason: Reason = Reason.SUCCESSOR_DIED  # why the taker is being fenced


Decision = tuple[Session, tuple[Action, ...]]
REVERSIBLE = frozenset(
    {S.GATHERING, S.EXPORTING, S.VERIFYING, S.PREPARED, S.COMMITTING, S.INSTALLED, S.HOLDING, S.HELD}
)


def begin(giver: Giver, *, taker_here: bool) -> Decision:
    return _gathered(Session(giver, taker_here))


def decide(session: Session, event: E, reason: Reason = Reason.ABORTED) -> Decision:
    """Total: an event that means nothing here changes nothing."""
    if event in (E.GIVER_JOINED, E.GIVER_LOST, E.GIVER_GONE):
        return _giver(session, event)
    if event in (E.TAKER_LOST, E.TAKER_GONE):
        return _taker_failed(session, event)
    match session.state, event:
        case S.GATHERING, E.TAKER_JOINED:
            return _gathered(replace(session, taker_here=True))
        case S.EXPORTING, E.ENDED:
            return replace(session, state=S.VERIFYING), ()
        case S.VERIFYING, E.PREPARED:
            if session.alone:
                return replace(session, state=S.COMMITTING), (Do.SEND_COMMIT,)
            return replace(session, state=S.PREPARED), (Do.TELL_PREPARED,)
        case S.PREPARED, E.COMMIT:
            return replace(session, state=S.COMMITTING), (Do.SEND_COMMIT, Do.TELL_COMMITTED)
        case S.COMMITTING, E.INSTALLED:
            if session.alone:
                return replace(session, state=S.RELEASING), (Do.SEND_RELEASE,)
            return replace(session, state=S.INSTALLED), (Do.TELL_INSTALLED,)
        case S.INSTALLED, E.RELEASE:
            if session.giver is Giver.LOST:
                return replace(session, state=S.HOLDING), ()
            return replace(session, state=S.RELEASING), (Do.SEND_RELEASE,)
        case S.RELEASING, E.READY:
            done: tuple[Action, ...] = (Do.SEND_DONE,) if session.giver is Giver.HERE else ()
            tell = Do.TELL_SKIPPED if session.alone else Do.TELL_READY
            return replace(session, state=S.SOAKING), (*done, tell)
        case S.HELD, E.SKIP:
            return replace(session, state=S.VERIFYING, alone=True, cold=True), (Do.SEND_STORED,)
        case S.SOAKING, E.FINISH:
            return replace(session, state=S.OVER), ()
    return _failed(session, event, reason)


def _gathered(session: Session) -> Decision:
    if not session.taker_here or session.giver is Giver.AWAITED:
        return session, ()
    if session.giver is Giver.HERE:
        return replace(session, state=S.EXPORTING), (Do.SEND_PREPARE,)
    return replace(session, state=S.VERIFYING, alone=True, cold=True), (Do.SEND_STORED,)


def _giver(session: Session, event: E) -> Decision:
    state = session.state
    if event is E.GIVER_JOINED:
        if session.giver is not Giver.AWAITED:
            return session, ()
        return _gathered(replace(session, giver=Giver.HERE))
    if event is E.GIVER_LOST:
        if session.giver is not Giver.HERE:
            return session, ()
        if state in (S.GATHERING, S.HELD):
            return _gathered_or_same(replace(session, giver=Giver.ABSENT))
        return replace(session, giver=Giver.LOST), ()
    if session.giver is Giver.GONE:
        return session, ()
    session = replace(session, giver=Giver.GONE)
    if state is S.EXPORTING:
        return replace(session, state=S.VERIFYING, cold=True), (Do.SEND_COLD_KEEP,)
    if state is S.HOLDING:
        return replace(session, state=S.RELEASING), (Do.SEND_RELEASE,)
    return _gathered_or_same(session)


def _gathered_or_same(session: Session) -> Decision:
    return _gathered(session) if session.state is S.GATHERING else (session, ())


def _taker_failed(session: Session, event: E) -> Decision:
    gone = event is E.TAKER_GONE
    reason = Reason.SUCCESSOR_DIED if gone else Reason.SUCCESSOR_HUNG_UP
    if session.state is S.HELD:
        return replace(session, state=S.OVER), ()
    if session.state in REVERSIBLE:
        held, actions = _back(session, reason)
        return replace(held, state=S.OVER), (Do.ABORT_TAKER, *actions)
    if session.state is S.RELEASING:
        return _regained(session, reason) if gone else _fence(session, reason)
    if session.state is S.FENCING and gone:
        return _regained(session, session.reason)
    if session.state is S.SOAKING and gone:
        return _regained(session, reason)
    return session, ()


def _failed(session: Session, event: E, reason: Reason) -> Decision:
    state = session.state
    if event is E.LATE:
        reason = _why_late(session)
    elif event not in (E.REFUSED, E.EXPORT_FAILED, E.ABORT):
        return session, ()
    if state is S.HELD:
        if event in (E.ABORT, E.LATE):
            return replace(session, state=S.OVER), (Do.ABORT_TAKER,)
        return session, ()
    if state in REVERSIBLE:
        held, actions = _back(session, reason)
        if event is E.ABORT:
            return replace(held, state=S.OVER), (Do.ABORT_TAKER, *actions)
        return held, actions
    if state is S.RELEASING:
        return _fence(session, reason)
    if state is S.FENCING and event is E.LATE:
        return session, (Do.FENCE_TAKER,)
    return session, ()


def _why_late(session: Session) -> Reason:
    if session.giver is Giver.LOST:
        return Reason.PREDECESSOR_HUNG_UP
    return Reason.DUMP_TIMEOUT if session.state is S.EXPORTING else Reason.LATE


def _fence(session: Session, reason: Reason) -> Decision:
    return replace(session, state=S.FENCING, reason=reason), (Do.FENCE_TAKER,)


def _back(session: Session, reason: Reason) -> Decision:
    """The giver has it again. One that hung up claims for itself; one that is dead leaves nobody."""
    resume: tuple[Action, ...] = (Do.RESUME_GIVER,) if session.giver is Giver.HERE else ()
    return replace(session, state=S.HELD), (*resume, Fail(reason, _owner(session)))


def _regained(session: Session, reason: Reason) -> Decision:
    """The taker, who may have owned, is dead."""
    resume: tuple[Action, ...] = (Do.RESUME_GIVER,) if session.giver is Giver.HERE else ()
    return replace(session, state=S.OVER), (*resume, Fail(reason, _owner(session)))


def _owner(session: Session) -> Owner:
    return Owner.NOBODY if session.giver is Giver.GONE else Owner.GIVER
