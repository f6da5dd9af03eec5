"""This process as the giver of a hand-over: carries out what `aeterna.table.giver` decides."""

import os
import time
from collections.abc import Sequence
from typing import Protocol

from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.handover import descriptors
from aeterna.sdk.handover.handlers import Frozen, Handlers, Resumed, log
from aeterna.sdk.handover.transfer import send_connections, send_part
from aeterna.srp.wire import claim
from aeterna.srp.wire.messages import (
    AbortMessage,
    DeltaMessage,
    DoneMessage,
    EndMessage,
    Message,
    OfferMessage,
    PrepareMessage,
    ResumeMessage,
)
from aeterna.srp.wire.state import State, apply_delta, pack
from aeterna.table import giver as table
from aeterna.table.events import HandoverEvent
from aeterna.table.giver import GiverAction, GiverState
from aeterna.table.reasons import Breach, Reason

DELTAS_MAX = 64 * 1024 * 1024


class HandoverCancelled(Exception):
    """The hand-over has ended while this process was sending."""


class Sender(Protocol):
    """The connection to the broker, for sending."""

    def send(self, message: Message, fds: Sequence[int] = ()) -> None: ...

    def settle(self) -> None:
        """Wait until most of the bytes have been written; Cancelled if the hand-over ends meanwhile."""


class Giver:
    """Lives as long as the connection to the broker; a hand-over begins with PREPARE."""

    def __init__(self, sender: Sender, handlers: Handlers, schema: str, version: int) -> None:
        self.state = GiverState.SERVING
        self.session = 0
        self.deadline: float | None = None
        self._sender = sender
        self._handlers = handlers
        self._schema = schema
        self._version = version
        self._prepare = PrepareMessage(0, "", 0, 0, 0, fds=False)
        self._claim: int | None = None
        self._frozen = Frozen()
        self._parts = 0
        self._failure = Reason.DUMP_FAILED
        self._deltas = State()
        self._deltas_bytes = 0
        self._whole = True

    @property
    def active(self) -> bool:
        return self.state not in (GiverState.SERVING, GiverState.STANDBY)

    def hear(self, message: Message, fds: list[int]) -> None:
        match message:
            case PrepareMessage() if self.state is GiverState.SERVING:
                self._begin(message, fds)
            case AbortMessage(session=session) if session == self.session:
                self.happen(HandoverEvent.ABORT)
            case ResumeMessage(claimed=claimed, deltas=deltas):
                self._whole = self._whole and deltas
                self.happen(HandoverEvent.RESUME_CLAIMED if claimed else HandoverEvent.RESUME)
            case DoneMessage():
                self.happen(HandoverEvent.DONE)
            case DeltaMessage(data) if self.state is GiverState.STANDBY:
                self._keep(data)

    def happen(self, event: HandoverEvent) -> None:
        self.state, actions = table.advance(self.state, event)
        for action in actions:
            self._act(action)

    def took_over_again(self) -> None:
        """A hand-over in the other direction has ended: this process owns the state again."""
        self.state = GiverState.SERVING
        self._forget()

    def _begin(self, prepare: PrepareMessage, fds: list[int]) -> None:
        self._forget()
        self._prepare = prepare
        self.session = prepare.session
        self._claim = fds.pop() if fds else None
        # Without a claim only the broker can give the state back, so after END there is no deadline (see _send_rest).
        self.deadline = time.monotonic() + 2 * prepare.time_ms / 1000
        self.happen(HandoverEvent.PREPARE)

    def _act(self, action: GiverAction) -> None:
        match action:
            case GiverAction.EXPORT:
                self._guarded(self._export)
            case GiverAction.SEND_REST:
                self._guarded(self._send_rest)
            case GiverAction.SEND_ABORT:
                self._sender.send(AbortMessage(self.session, self._failure))
            case GiverAction.CANCEL:
                self._forget()
            case GiverAction.CLAIM:
                won = claim.take(self._claim) if self._claim is not None else True
                self.happen(HandoverEvent.CLAIM_WON if won else HandoverEvent.CLAIM_EMPTY)
            case GiverAction.THAW:
                self._thaw(proven=False)
            case GiverAction.THAW_PROVEN:
                self._thaw(proven=True)
            case GiverAction.DROP:
                self._drop()
            case GiverAction.TAKE_BACK:
                deltas, whole = self._deltas, self._whole
                self._forget()
                self._handlers.tell_resumed(Resumed(state=deltas, whole=whole))

    def _guarded(self, work: "_Work") -> None:
        try:
            work()
        except HandoverCancelled:
            return  # the message that cancelled it is in the inbox and is handled next
        except Breach as breach:
            self._failure = breach.reason
            log.warning("[Aeterna-SDK] cannot hand over: %s", breach.text)
            self.happen(HandoverEvent.EXPORT_FAILED)
        except Exception:
            self._failure = Reason.DUMP_FAILED
            log.exception("[Aeterna-SDK] the application cannot hand over")
            self.happen(HandoverEvent.EXPORT_FAILED)

    def _export(self) -> None:
        prepare = self._prepare
        descriptors.reserve()  # while the application still serves
        packed = pack(self._handlers.export())
        self._check_size(packed.size)
        self._sender.send(OfferMessage(prepare.session, self._schema, self._version, prepare.reverse))
        send_part(self._send, prepare.session, packed, memfd=prepare.fds)
        self._parts = 1
        self._sender.settle()
        # From here on the process counts as frozen: if freeze() fails half-way, the parts that it stopped must resume.
        self._frozen = Frozen()
        self.happen(HandoverEvent.FROZE)

    def _send_rest(self) -> None:
        prepare = self._prepare
        self._frozen = frozen = self._handlers.freeze()
        drop = tuple(frozen.drop)
        if frozen.changed or drop:
            packed = pack(frozen.changed, drop)
            self._check_size(packed.size)
            send_part(self._send, prepare.session, packed, memfd=prepare.fds)
            self._parts += 1
        if frozen.connections and not prepare.fds:
            raise Breach(Reason.DUMP_FAILED, "the successor cannot receive connections")
        send_connections(self._send, prepare.session, frozen.connections)
        for each in frozen.connections:
            each.freeze()  # while they are being sent: until END the taker does not touch them
        self._sender.send(EndMessage(prepare.session, self._parts, len(frozen.connections)))
        if self._claim is None:
            self.deadline = None
        else:
            self.deadline = time.monotonic() + 2 * prepare.time_ms / 1000

    def _send(self, message: Message, fds: Sequence[int]) -> None:
        self._sender.send(message, fds)
        self._sender.settle()

    def _check_size(self, size: int) -> None:
        if size > self._prepare.bytes_max:
            raise Breach(Reason.OVERSIZED, f"{size} bytes, allowed are {self._prepare.bytes_max}")

    def _thaw(self, *, proven: bool) -> None:
        good: list[Connection] = []
        lost: list[Connection] = []
        for each in self._frozen.connections:
            (good if not proven or each.untouched else lost).append(each)
        for each in lost:
            each.sock.close()
        self._forget()
        self._handlers.tell_resumed(Resumed(connections=good, lost=lost))

    def _drop(self) -> None:
        for each in self._frozen.connections:
            each.sock.close()
        self._forget()
        self._handlers.tell_retired()

    def _keep(self, data: bytes) -> None:
        self._deltas_bytes += len(data)
        if self._deltas_bytes > DELTAS_MAX:
            self._whole = False
            return
        try:
            apply_delta(self._deltas, data)
        except Breach:
            self._whole = False

    def _forget(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
        self.deadline = None
        self._frozen = Frozen()
        self._deltas = State()
        self._deltas_bytes = 0
        self._whole = True


class _Work(Protocol):
    def __call__(self) -> None: ...
