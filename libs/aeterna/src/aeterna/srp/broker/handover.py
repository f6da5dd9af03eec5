"""One hand-over as the broker carries it out: `aeterna.table.broker` decides, this module sends."""

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aeterna.srp.broker.checkpoint import Checkpoint
from aeterna.srp.broker.flow import Data, Flow
from aeterna.srp.peer import PENDING_MAX, BrokerLoop, BrokerTimer, Peer
from aeterna.srp.peer_v1 import V1_STATE_MAX
from aeterna.srp.wire import claim
from aeterna.srp.wire.link import close_all
from aeterna.srp.wire.messages import (
    AbortMessage,
    ColdMessage,
    CommitMessage,
    DeltaMessage,
    DoneMessage,
    EndMessage,
    InstalledMessage,
    Message,
    PreparedMessage,
    PrepareMessage,
    ReadyMessage,
    ReleaseMessage,
    ResumeMessage,
)
from aeterna.table import broker as table
from aeterna.table.broker import BrokerAction, BrokerState, GiverPresence, Tell, TellFailure
from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Breach, Reason

LOST_GRACE_S = 0.5  # between a hang-up and the proof that it was a death
FENCE_S = 1.0

_TAKER_SAYS: dict[type[Message], HandoverEvent] = {
    PreparedMessage: HandoverEvent.PREPARED,
    InstalledMessage: HandoverEvent.INSTALLED,
    ReadyMessage: HandoverEvent.READY,
}


@dataclass(frozen=True, slots=True)
class BrokerServices:
    """The functions of the broker that a hand-over uses."""

    loop: BrokerLoop
    peer: Callable[[int], Peer | None]
    number: Callable[[], int]  # of the next session
    checkpoint: Callable[[], Checkpoint | None]
    kill: Callable[[int], None]
    tell: Callable[["Handover", HandoverEvent, Reason | None], None]  # a step, or FAILED with its reason


class Handover:
    """From PREPARE to the end of the soak. `reverse`: the successor gives its state back to the old process."""

    def __init__(
        self,
        broker: BrokerServices,
        giver: int | None,
        taker: int,
        *,
        bytes_max: int,
        time_s: float,
        reverse: bool = False,
    ) -> None:
        self.giver = giver
        self.taker = taker
        self.reverse = reverse
        self.number = broker.number()
        self.flow = Flow(self.number, bytes_max)
        self._broker = broker
        self._time_s = time_s
        self._claim: int | None = None
        self._claimed_on_word = False  # RELEASE was sent to a taker that cannot claim
        self._deltas_whole = True
        self._timer: BrokerTimer | None = None
        self._armed: tuple[BrokerState, bool] | None = None
        self.soaked = False  # the event that is being handled came after READY
        here = giver is not None and broker.peer(giver) is not None
        presence = GiverPresence.GONE if giver is None else GiverPresence.HERE if here else GiverPresence.ABSENT
        self.ownership, self._first = table.begin(presence, taker_here=broker.peer(taker) is not None)

    def start(self) -> None:
        self._obey(self._first)

    @property
    def state(self) -> BrokerState:
        return self.ownership.state

    @property
    def over(self) -> bool:
        return self.state is BrokerState.OVER

    def concerns(self, generation: int) -> bool:
        return generation in (self.giver, self.taker)

    def happen(self, event: HandoverEvent, reason: Reason = Reason.ABORTED) -> None:
        self.soaked = self.state is BrokerState.SOAKING
        self.ownership, actions = table.advance(self.ownership, event, reason)
        self._obey(actions)

    # --- messages of the two members

    def from_giver(self, message: Message, fds: list[int], size: int) -> None:
        if isinstance(message, AbortMessage):
            if message.session == self.flow.session:
                self.happen(HandoverEvent.EXPORT_FAILED, Reason.read(message.reason))
            return
        if isinstance(message, DeltaMessage):
            if self.reverse:
                self._to_taker(message)  # sent just before this giver was asked to give everything back
            return
        if isinstance(message, PreparedMessage | InstalledMessage | ReadyMessage):
            return  # an answer to an earlier hand-over, in which this process was the taker
        if not isinstance(message, Data):
            close_all(fds)
            raise Breach(Reason.PROTOCOL, f"{message.TYPE.name} from the giver")
        if self.state is not BrokerState.EXPORTING or not self.flow.concerns(message):
            close_all(fds)
            return
        try:
            self.flow.check(message, size, fds)
        except Breach as breach:
            close_all(fds)
            self.happen(HandoverEvent.EXPORT_FAILED, breach.reason)
            return
        if isinstance(message, EndMessage):
            self.happen(
                HandoverEvent.END
            )  # before the message is passed on: a version 1 taker may answer before `_to_taker` returns
        self._to_taker(message, fds)
        taker = self._broker.peer(self.taker)
        giver = self._peer_of_giver()
        if taker is not None and giver is not None and taker.pending > PENDING_MAX:
            giver.pause(True)

    def from_taker(self, message: Message) -> None:
        if isinstance(message, AbortMessage):
            if message.session == self.number:
                self.happen(HandoverEvent.REFUSED, Reason.read(message.reason))
        elif isinstance(message, DeltaMessage):
            self._delta(message)
        elif (event := _TAKER_SAYS.get(type(message))) is not None:
            if getattr(message, "session", None) == self.number:
                self.happen(event)
        elif not isinstance(
            message, Data
        ):  # data is left over from an earlier hand-over, in which this process was the giver
            raise Breach(Reason.PROTOCOL, f"{message.TYPE.name} from the taker")

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

    # --- actions

    def _obey(self, actions: Sequence[table.Action]) -> None:
        for action in actions:
            match action:
                case Tell(event):
                    self._rearm()
                    self._broker.tell(self, event, None)
                case TellFailure(reason):
                    self._rearm()
                    self._broker.tell(self, HandoverEvent.FAILED, reason)
                case _:
                    self._act(action)
        self._rearm()

    def _act(self, action: BrokerAction) -> None:
        match action:
            case BrokerAction.SEND_PREPARE:
                self._prepare()
            case BrokerAction.SEND_STORED:
                self._begin_alone()
            case BrokerAction.SEND_COLD_KEEP:
                self._renumber()
                self._to_taker(ColdMessage(self.number, Reason.PREDECESSOR_DIED, keep=True))
            case BrokerAction.SEND_COMMIT:
                fds = (os.dup(self._claim),) if self._claim is not None and not self.ownership.cold else ()
                self._to_taker(CommitMessage(self.number), fds)
            case BrokerAction.SEND_RELEASE:
                self._claimed_on_word = self._claim is None
                self._to_taker(ReleaseMessage(self.number))
            case BrokerAction.SEND_DONE:
                self._to_giver(DoneMessage(self.flow.session))
            case BrokerAction.ABORT_TAKER:
                self._to_taker(AbortMessage(self.number, Reason.ABORTED))
            case BrokerAction.RESUME_GIVER:
                self._to_giver(ResumeMessage(self.flow.session, self._claimed(), self._deltas_whole))
            case BrokerAction.FENCE_TAKER:
                self._broker.kill(self.taker)
            case _:
                raise AssertionError(action)

    def _prepare(self) -> None:
        taker = self._broker.peer(self.taker)
        giver = self._peer_of_giver()
        assert taker is not None
        assert giver is not None
        fds = taker.hello.fds and giver.hello.fds
        if fds:
            self._claim = claim.make()
        if not taker.hello.token:  # version 1
            self.flow.bytes_max = min(self.flow.bytes_max, V1_STATE_MAX)
        message = PrepareMessage(
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
        stored = self._broker.checkpoint()
        if stored is None:
            self._to_taker(ColdMessage(self.number, "no predecessor" if self.giver is None else "no state"))
            return
        taker = self._broker.peer(self.taker)
        fds = taker is not None and taker.hello.fds
        self.flow.bytes = stored.size
        for message, carried in stored.messages(self.number, fds=fds):
            self._to_taker(message, carried)

    def _renumber(self) -> None:
        """A new number, so that late answers to the messages before are not taken for answers to the next ones."""
        self.number = self._broker.number()

    def _claimed(self) -> bool:
        if self.state is BrokerState.HELD:
            return False
        if self._claim is None:
            return self._claimed_on_word
        # Only look whether the claim is empty: reading it is the giver's right.
        poll = select.poll()
        poll.register(self._claim, select.POLLIN)
        return not poll.poll(0)

    def _delta(self, message: DeltaMessage) -> None:
        giver = self._peer_of_giver()
        if self.state is not BrokerState.SOAKING or giver is None or not self._deltas_whole:
            return
        if giver.pending > PENDING_MAX:
            self._deltas_whole = False  # the standby will be told that its deltas are not complete
            return
        giver.send(message)

    # --- time limits

    def _rearm(self) -> None:
        """Start the time limit of a new state; after a hang-up in the middle the limit is short."""
        state = self.state
        key = (state, self.ownership.giver is GiverPresence.LOST)
        if key == self._armed:
            return
        self._armed = key
        same_limit = self._timer is not None and state is BrokerState.VERIFYING  # PREPARE to PREPARED has one limit
        lost = self.ownership.giver is GiverPresence.LOST and state in (BrokerState.EXPORTING, BrokerState.HOLDING)
        if state in (BrokerState.OVER, BrokerState.SOAKING, BrokerState.GATHERING):
            self._disarm()
        elif lost:
            self._arm(LOST_GRACE_S)
        elif state is BrokerState.FENCING:
            self._arm(FENCE_S)
        elif not same_limit:
            self._arm(self._time_s)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._broker.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self._armed = None
        self.happen(HandoverEvent.LATE)

    # --- sending

    def _peer_of_giver(self) -> Peer | None:
        return self._broker.peer(self.giver) if self.giver is not None else None

    def _to_giver(self, message: Message, fds: Sequence[int] = ()) -> None:
        _send(self._peer_of_giver(), message, fds)

    def _to_taker(self, message: Message, fds: Sequence[int] = ()) -> None:
        _send(self._broker.peer(self.taker), message, fds)


def _send(peer: Peer | None, message: Message, fds: Sequence[int]) -> None:
    if peer is None:
        close_all(fds)
    else:
        peer.send(message, fds)
