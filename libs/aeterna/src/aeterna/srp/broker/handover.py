"""One hand-over as the broker carries it out: the decision is `relay`'s, the sending is done here."""

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aeterna.srp.broker.checkpoint import V1_STATE_MAX, Checkpoint
from aeterna.srp.broker.flow import Data, Flow
from aeterna.srp.peer_v2 import PENDING_MAX, Loop, Peer, Timer
from aeterna.srp.wire import claim
from aeterna.srp.wire.link import close_all
from aeterna.srp.wire.messages import (
    Abort,
    Cold,
    Commit,
    Delta,
    Done,
    End,
    Installed,
    Message,
    Prepare,
    Prepared,
    Ready,
    Release,
    Resume,
)
from aeterna.table import broker as relay
from aeterna.table.broker import Do, E, Fail, Giver, S
from aeterna.table.reasons import Breach, Reason

LOST_GRACE_S = 0.5  # between a hang-up and the proof that it was a death
FENCE_S = 1.0

_TELLS = frozenset({Do.TELL_PREPARED, Do.TELL_COMMITTED, Do.TELL_INSTALLED, Do.TELL_READY, Do.TELL_SKIPPED})
_TAKER_SAYS: dict[type[Message], E] = {
    Prepared: E.PREPARED,
    Installed: E.INSTALLED,
    Ready: E.READY,
}


@dataclass(frozen=True, slots=True)
class Outside:
    """What a hand-over needs of the broker."""

    loop: Loop
    peer: Callable[[int], Peer | None]
    number: Callable[[], int]  # of the next session
    checkpoint: Callable[[], Checkpoint | None]
    kill: Callable[[int], None]
    tell: Callable[["Handover", Do | Fail], None]


class Handover:
    def __init__(
        self, outside: Outside, giver: int | None, taker: int, *, bytes_max: int, time_s: float, reverse: bool = False
    ) -> None:
        self.giver = giver
        self.taker = taker
        self.reverse = reverse
        self.number = outside.number()
        self.flow = Flow(self.number, bytes_max)
        self._outside = outside
        self._time_s = time_s
        self._claim: int | None = None
        self._claimed_on_word = False  # RELEASE was sent to a taker that cannot claim
        self._deltas_whole = True
        self._timer: Timer | None = None
        self._armed: tuple[S, bool] | None = None
        self.soaked = False  # what happens now happens after READY
        here = giver is not None and outside.peer(giver) is not None
        presence = Giver.GONE if giver is None else Giver.HERE if here else Giver.ABSENT
        self.session, self._first = relay.begin(presence, taker_here=outside.peer(taker) is not None)

    def start(self) -> None:
        self._obey(self._first)

    @property
    def state(self) -> S:
        return self.session.state

    @property
    def over(self) -> bool:
        return self.state is S.OVER

    def concerns(self, generation: int) -> bool:
        return generation in (self.giver, self.taker)

    def happen(self, event: E, reason: Reason = Reason.ABORTED) -> None:
        self.soaked = self.state is S.SOAKING
        self.session, actions = relay.decide(self.session, event, reason)
        self._obey(actions)

    # --- what the two say

    def from_giver(self, message: Message, fds: list[int], size: int) -> None:
        if isinstance(message, Abort):
            if message.session == self.flow.session:
                self.happen(E.EXPORT_FAILED, Reason.read(message.reason))
            return
        if isinstance(message, Delta):
            if self.reverse:
                self._to_taker(message)  # told just before it was asked to give all back
            return
        if isinstance(message, Prepared | Installed | Ready):
            return  # an answer to an earlier hand-over, in which it took
        if not isinstance(message, Data):
            close_all(fds)
            raise Breach(Reason.PROTOCOL, f"{type(message).__name__} from the one that hands over")
        if self.state is not S.EXPORTING or not self.flow.concerns(message):
            close_all(fds)
            return
        try:
            self.flow.check(message, size, fds)
        except Breach as breach:
            close_all(fds)
            self.happen(E.EXPORT_FAILED, breach.reason)
            return
        if isinstance(message, End):
            self.happen(E.ENDED)  # first: a taker of version 1 may answer before this returns
        self._to_taker(message, fds)
        taker = self._outside.peer(self.taker)
        giver = self._peer_of_giver()
        if taker is not None and giver is not None and taker.pending > PENDING_MAX:
            giver.pause(True)

    def from_taker(self, message: Message) -> None:
        if isinstance(message, Abort):
            if message.session == self.number:
                self.happen(E.REFUSED, Reason.read(message.reason))
        elif isinstance(message, Delta):
            self._delta(message)
        elif (event := _TAKER_SAYS.get(type(message))) is not None:
            if getattr(message, "session", None) == self.number:
                self.happen(event)
        elif not isinstance(message, Data):  # data is what is left of an earlier hand-over, in which it gave
            raise Breach(Reason.PROTOCOL, f"{type(message).__name__} from the one that takes over")

    def drained(self, generation: int) -> None:
        giver = self._peer_of_giver()
        if generation == self.taker and giver is not None:
            giver.pause(False)

    def close(self) -> None:
        self._disarm()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
        giver = self._peer_of_giver()
        if giver is not None:
            giver.pause(False)

    # --- what follows

    def _obey(self, actions: Sequence[relay.Action]) -> None:
        for action in actions:
            if isinstance(action, Fail) or action in _TELLS:
                self._rearm()
                self._outside.tell(self, action)
            else:
                self._act(action)
        self._rearm()

    def _act(self, action: Do) -> None:
        match action:
            case Do.SEND_PREPARE:
                self._prepare()
            case Do.SEND_STORED:
                self._begin_alone()
            case Do.SEND_COLD_KEEP:
                self._renumber()
                self._to_taker(Cold(self.number, Reason.PREDECESSOR_DIED, keep=True))
            case Do.SEND_COMMIT:
                fds = (os.dup(self._claim),) if self._claim is not None and not self.session.cold else ()
                self._to_taker(Commit(self.number), fds)
            case Do.SEND_RELEASE:
                self._claimed_on_word = self._claim is None
                self._to_taker(Release(self.number))
            case Do.SEND_DONE:
                self._to_giver(Done(self.flow.session))
            case Do.ABORT_TAKER:
                self._to_taker(Abort(self.number, Reason.ABORTED))
            case Do.RESUME_GIVER:
                self._to_giver(Resume(self.flow.session, self._claimed(), self._deltas_whole))
            case Do.FENCE_TAKER:
                self._outside.kill(self.taker)
            case _:
                raise AssertionError(action)

    def _prepare(self) -> None:
        taker = self._outside.peer(self.taker)
        giver = self._peer_of_giver()
        assert taker is not None
        assert giver is not None
        fds = taker.hello.fds and giver.hello.fds
        if fds:
            self._claim = claim.make()
        if not taker.hello.token:  # version 1
            self.flow.bytes_max = min(self.flow.bytes_max, V1_STATE_MAX)
        message = Prepare(
            self.number,
            taker.hello.schema,
            taker.hello.version,
            self.flow.bytes_max,
            int(self._time_s * 1000),
            fds,
            self.reverse,
        )
        self._to_giver(message, (os.dup(self._claim),) if self._claim is not None else ())

    def _begin_alone(self) -> None:
        self._renumber()
        stored = self._outside.checkpoint()
        if stored is None:
            self._to_taker(Cold(self.number, "no predecessor" if self.giver is None else "no state"))
            return
        taker = self._outside.peer(self.taker)
        fds = taker is not None and taker.hello.fds
        self.flow.bytes = stored.size
        for message, carried in stored.messages(self.number, fds=fds):
            self._to_taker(message, carried)

    def _renumber(self) -> None:
        """Answers to what was before must not be taken for answers to what comes."""
        self.number = self._outside.number()

    def _claimed(self) -> bool:
        if self.state is S.HELD:
            return False
        if self._claim is None:
            return self._claimed_on_word
        # Looked at, not taken: it is the giver's to take.
        poll = select.poll()
        poll.register(self._claim, select.POLLIN)
        return not poll.poll(0)

    def _delta(self, message: Delta) -> None:
        giver = self._peer_of_giver()
        if self.state is not S.SOAKING or giver is None or not self._deltas_whole:
            return
        if giver.pending > PENDING_MAX:
            self._deltas_whole = False  # a standby that does not read gets to know that it lacks some
            return
        giver.send(message)

    # --- budgets of time

    def _rearm(self) -> None:
        """A new state has its own budget; a hang-up in the middle has a short one."""
        state = self.state
        key = (state, self.session.giver is Giver.LOST)
        if key == self._armed:
            return
        self._armed = key
        same_budget = self._timer is not None and state is S.VERIFYING  # PREPARE to PREPARED is one
        lost = self.session.giver is Giver.LOST and state in (S.EXPORTING, S.HOLDING)
        if state in (S.OVER, S.SOAKING, S.GATHERING):
            self._disarm()
        elif lost:
            self._arm(LOST_GRACE_S)
        elif state is S.FENCING:
            self._arm(FENCE_S)
        elif not same_budget:
            self._arm(self._time_s)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._outside.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self._armed = None
        self.happen(E.LATE)

    # --- sending

    def _peer_of_giver(self) -> Peer | None:
        return self._outside.peer(self.giver) if self.giver is not None else None

    def _to_giver(self, message: Message, fds: Sequence[int] = ()) -> None:
        _send(self._peer_of_giver(), message, fds)

    def _to_taker(self, message: Message, fds: Sequence[int] = ()) -> None:
        _send(self._outside.peer(self.taker), message, fds)


def _send(peer: Peer | None, message: Message, fds: Sequence[int]) -> None:
    if peer is None:
        close_all(fds)
    else:
        peer.send(message, fds)
