"""This process as the taker of a hand-over: carries out what `aeterna.table.taker` decides."""

import os
import threading
import time
from collections.abc import Callable

from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.handover import descriptors
from aeterna.sdk.handover.giver import Sender
from aeterna.sdk.handover.handlers import Handlers, HandoverFailed, log
from aeterna.sdk.handover.transfer import Received
from aeterna.srp.wire import claim
from aeterna.srp.wire.link import close_all
from aeterna.srp.wire.messages import (
    AbortMessage,
    ChunkMessage,
    ColdMessage,
    CommitMessage,
    ConnectionsMessage,
    EndMessage,
    InstalledMessage,
    Message,
    OfferMessage,
    PartMessage,
    PreparedMessage,
    ReadyMessage,
    ReleaseMessage,
)
from aeterna.srp.wire.state import State
from aeterna.table import taker as table
from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Breach, Reason
from aeterna.table.taker import TakerAction, TakerState


class Taker:
    """`loaded` is set when the application may read the state, `ended` when this process owns the state or has lost
    it."""

    def __init__(
        self,
        sender: Sender,
        handlers: Handlers,
        schema: str,
        version: int,
        bytes_max: int,
        *,
        hold: bool,
        started: Callable[["Taker"], None],
    ) -> None:
        self.state = TakerState.WAITING
        self.context: State = State()
        self.connections: list[Connection] = []
        self.cold = False
        self.failure: HandoverFailed | None = None
        self.loaded = threading.Event()
        self.ended = threading.Event()
        self.deadline: float | None = None
        self._sender = sender
        self._handlers = handlers
        self._schema = schema
        self._version = version
        self._bytes_max = bytes_max
        self._hold = hold
        self._started = started
        self._session = 0
        self._received: Received | None = None
        self._keep = False
        self._claim: int | None = None
        self._reason = Reason.ABORTED

    @property
    def owner(self) -> bool:
        return self.state is TakerState.OWNER

    def hear(self, message: Message, fds: list[int]) -> None:
        match message:
            case OfferMessage(session=session):
                self._session = session
                descriptors.reserve()  # while the predecessor still serves
                self._received = Received(message, self._bytes_max)
                self.happen(HandoverEvent.OFFER)
                self._checked(self._check_schema)
            case PartMessage() | ChunkMessage() | ConnectionsMessage() | EndMessage() if (
                self.state is TakerState.RECEIVING and self._received is not None
            ):
                received = self._received
                self._checked(lambda: self._take(received, message, fds))
            case ColdMessage(session=session, keep=keep):
                self._session, self._keep, self.cold = session, keep, True
                self.happen(HandoverEvent.COLD)
            case CommitMessage(session=session) if session == self._session:
                self._claim = fds.pop() if fds else None
                self.happen(HandoverEvent.COMMIT)
            case ReleaseMessage(session=session) if session == self._session:
                self.happen(HandoverEvent.RELEASE)
            case AbortMessage(reason=reason):
                self._reason = Reason.read(reason)
                self.happen(HandoverEvent.ABORT)
            case _:
                close_all(fds)

    def happen(self, event: HandoverEvent) -> None:
        self.state, actions = table.advance(self.state, event)
        for action in actions:
            self._act(action)

    def lost(self) -> None:
        self._reason = Reason.PROTOCOL
        self.happen(HandoverEvent.BROKER_HUNG_UP)

    def late(self) -> None:
        self._reason = Reason.LATE
        self.happen(HandoverEvent.LATE)

    def _take(self, received: Received, message: Message, fds: list[int]) -> None:
        if received.take(message, fds):
            self.happen(HandoverEvent.VERIFIED)

    def _check_schema(self) -> None:
        assert self._received is not None
        offer = self._received.offer
        if offer.schema not in ("", self._schema):
            raise Breach(Reason.SCHEMA, f"schema {offer.schema[:80]!r} instead of {self._schema!r}")
        if offer.version > self._version:
            raise Breach(Reason.SCHEMA, f"version {offer.version} is newer than {self._version}")
        if offer.version < self._version and self._handlers.migrate is None:
            raise Breach(Reason.SCHEMA, f"version {offer.version} is older than {self._version}, and nothing migrates")

    def _checked(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Breach as breach:
            log.warning("[Aeterna-SDK] the state is refused: %s", breach.text)
            self._reason = breach.reason
            self.happen(HandoverEvent.REFUSED)

    def _act(self, action: TakerAction) -> None:
        match action:
            case TakerAction.LOAD:
                self._load()
            case TakerAction.FORGET:
                self._forget()
            case TakerAction.SEND_ABORT:
                self._sender.send(AbortMessage(self._session, self._reason))
            case TakerAction.SEND_PREPARED:
                self.deadline = None
                self._sender.send(PreparedMessage(self._session))
            case TakerAction.INSTALL:
                self.happen(HandoverEvent.INSTALLED)
            case TakerAction.SEND_INSTALLED:
                self._sender.send(InstalledMessage(self._session))
            case TakerAction.CLAIM:
                won = claim.take(self._claim) if self._claim is not None else True
                self._reason = self._reason if won else Reason.LATE
                self.happen(HandoverEvent.CLAIM_WON if won else HandoverEvent.CLAIM_EMPTY)
            case TakerAction.START:
                self._close_claim()
                self._started(self)
            case TakerAction.SEND_READY:
                self._sender.send(ReadyMessage(self._session))
                self.ended.set()
            case TakerAction.DISCARD:
                self._discard()

    def _load(self) -> None:
        received = self._received
        if received is not None and not self.cold:
            self.context = received.state
            if received.offer.version < self._version and not self._migrate(received.offer.version):
                return
        self.connections = list(received.connections) if received is not None else []
        self.loaded.set()
        if not self._hold:
            self.happen(HandoverEvent.APP_READY)

    def _migrate(self, version: int) -> bool:
        assert self._handlers.migrate is not None
        migrated = State()
        try:
            migrated.update(self._handlers.migrate(version, self.context))
        except Exception:
            log.exception("[Aeterna-SDK] the state of version %d cannot be migrated", version)
            self._reason = Reason.LOAD_REFUSED
            self.happen(HandoverEvent.REFUSED)
            return False
        self.context = migrated
        return True

    def _forget(self) -> None:
        self.context = State()
        if self._received is not None and not self._keep:
            self._received.close()
            self._received = None
        self.loaded.clear()

    def _discard(self) -> None:
        self._keep = False
        self._forget()
        self.connections = []
        self._close_claim()
        self.failure = HandoverFailed(self._reason)
        self.loaded.set()
        self.ended.set()

    def _close_claim(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
        self.deadline = None

    def arm(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
