"""The broker: PID 1's part of the State Relay Protocol, on PID 1's loop. Nothing in it blocks.

Every order of the supervisor is idempotent, and its result comes as a call of `report`, possibly before the order
returns.
"""

import base64
import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aeterna.srp.accept import Acceptor, Routes
from aeterna.srp.admission import Admission, open_socket
from aeterna.srp.broker.checkpoint import Checkpoint
from aeterna.srp.broker.handover import BrokerServices, Handover
from aeterna.srp.peer import BrokerLoop, Peer
from aeterna.srp.peer_v1 import SuccessorV1, read_state
from aeterna.srp.peer_v2 import PeerV2
from aeterna.srp.wire.link import SrpLink, close_all
from aeterna.srp.wire.messages import HelloMessage, ListenersMessage, Message, ResumeMessage, WelcomeMessage
from aeterna.table.broker import BrokerState
from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Breach, Reason


@dataclass(frozen=True)
class BrokerLimits:
    """The limits of a hand-over from the configuration. `idle_s` is the time from connecting to HELLO."""

    timeout_s: float = 5.0
    state_bytes_max: int = 1024 * 1024 * 1024
    idle_s: float = 2.0


# The steps that the supervisor hears of: JOINED, PREPARED, COMMITTED, INSTALLED, READY, SKIPPED, RETURNED and FAILED,
# about which generation, and the reason of FAILED.
Report = Callable[[HandoverEvent, int, str], None]


class Broker:
    """Knows every generation that may connect and every member, and runs at most one hand-over at a time."""

    def __init__(
        self,
        loop: BrokerLoop,
        *,
        socket_path: str,
        limits: BrokerLimits,
        report: Report,
        listeners: Callable[[int], Sequence[tuple[str, int]]],
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self._loop = loop
        self._path = socket_path
        self._limits = limits
        self._report = report
        self._listeners = listeners
        self._admissions: dict[int, Admission] = {}
        self._peers: dict[int, Peer] = {}
        self._settled: set[int] = set()  # generations that have their state; when they join again they ask for none
        self._handover: Handover | None = None
        self._fenced_return: tuple[int, int] | None = None  # (new, old): `new` must be dead before `old` resumes
        self._regained: set[int] = set()  # old processes that were resumed because their successor died
        self._checkpoint: Checkpoint | None = None
        self._sessions = 0
        self._facts: Counter[str] = Counter()
        kept = kept or {}
        listener = socket.socket(fileno=kept["listener"]) if kept else open_socket(socket_path)
        routes = Routes(
            admissions=lambda: list(self._admissions.values()),
            joined=self._join,
            joined_v1=self._join_v1,
            may_join=lambda admission: admission.generation not in self._peers,
            pushed=self._pushed,
            refused=lambda breach: self._count_refusal(breach.reason),
        )
        self._acceptor = Acceptor(loop, listener, hello_s=limits.idle_s, routes=routes)
        self._restore(kept)

    # --- orders of the supervisor

    def admit(self, generation: int, pid: int, token: str) -> None:
        self._admissions[generation] = Admission(generation, pid, token)

    def dismiss(self, generation: int) -> None:
        """Its process was reaped. First handle what it had sent; then it counts as dead."""
        peer = self._peers.get(generation)
        if isinstance(peer, PeerV2):
            peer.drain()
        elif peer is not None:
            peer.close()
            self.left(peer)
        self._admissions.pop(generation, None)
        self._settled.discard(generation)
        handover = self._handover
        if handover is not None and handover.concerns(generation):
            handover.happen(HandoverEvent.GIVER_DIED if generation == handover.giver else HandoverEvent.TAKER_DIED)
        if self._fenced_return is not None and generation == self._fenced_return[0]:
            self._resume_old(*self._fenced_return)

    def joined(self, generation: int) -> bool:
        return generation in self._peers and generation not in self._settled

    def prepare(self, old: int, new: int) -> None:
        handover = self._handover
        if handover is not None and (handover.giver, handover.taker) == (old, new) and not handover.over:
            return
        self._begin(old, new)

    def commit(self) -> None:
        self._order(HandoverEvent.COMMIT)

    def release(self) -> None:
        self._order(HandoverEvent.RELEASE)

    def skip(self, new: int) -> None:
        handover = self._handover
        if handover is not None and handover.taker == new and not handover.over:
            handover.happen(HandoverEvent.SKIP)
            return
        self._begin(None, new)

    def abort(self) -> None:
        self._order(HandoverEvent.ABORT)

    def abandon_old(self, new: int) -> None:
        handover = self._handover
        if handover is None or handover.over or handover.taker != new:
            self.skip(new)
        elif handover.state is BrokerState.HELD:
            handover.happen(HandoverEvent.SKIP)
        else:
            handover.happen(HandoverEvent.GIVER_DIED)

    def return_state(self, new: int, old: int) -> None:
        if old in self._regained:
            self._regained.discard(old)
            self._report(HandoverEvent.RETURNED, new, "")
            return
        handover = self._handover
        if handover is not None and handover.reverse and (handover.giver, handover.taker) == (new, old):
            return
        if handover is None or (handover.giver, handover.taker) != (old, new) or old not in self._peers:
            self._close_handover()
            self._report(HandoverEvent.RETURNED, new, "")
        elif new not in self._admissions:
            self._resume_old(new, old)
        elif handover.state is not BrokerState.SOAKING:
            handover.happen(
                HandoverEvent.ABORT
            )  # before READY the successor does not own the state, so it cannot give it back
        elif new not in self._peers:
            self._fence_for_return(new, old)
        else:
            self._begin(new, old, reverse=True)

    def settle(self) -> None:
        self._order(HandoverEvent.FINISH)
        self._regained.clear()
        if self._handover is not None and self._handover.over:
            self._close_handover()

    def facts(self) -> dict[str, float]:
        return dict(self._facts)

    def close(self) -> None:
        self._close_handover()
        self._acceptor.close()
        for peer in list(self._peers.values()):
            peer.close()
        if self._checkpoint is not None:
            self._checkpoint.close()
        if not self._path.startswith("@"):
            Path(self._path).unlink(missing_ok=True)

    # --- across a re-exec

    def keep(self) -> dict[str, Any]:
        members = [peer for peer in self._peers.values() if isinstance(peer, PeerV2) and not peer.pending]
        return {
            "listener": self._acceptor.listener.fileno(),
            "sessions": self._sessions,
            "settled": sorted(self._settled),
            "admissions": [asdict(admission) for admission in self._admissions.values()],
            "checkpoint": asdict(self._checkpoint) if self._checkpoint else None,
            "members": [
                {
                    "generation": member.generation,
                    "fd": member.link.fileno(),
                    "hello": asdict(member.hello),
                    "held": base64.b64encode(member.link.reader.held).decode(),
                }
                for member in members
            ],
        }

    def fds(self) -> list[int]:
        kept = self.keep()
        checkpoint = [kept["checkpoint"]["fd"]] if kept["checkpoint"] else []
        return [kept["listener"], *(member["fd"] for member in kept["members"]), *checkpoint]

    def _restore(self, kept: Mapping[str, Any]) -> None:
        if not kept:
            return
        self._sessions = kept["sessions"]
        self._settled = set(kept["settled"])
        self._admissions = {each["generation"]: Admission(**each) for each in kept["admissions"]}
        self._checkpoint = Checkpoint(**kept["checkpoint"]) if kept["checkpoint"] else None
        for fact in kept["members"]:
            link = SrpLink(socket.socket(fileno=fact["fd"]))
            link.reader.feed(base64.b64decode(fact["held"]))
            member = PeerV2(self._loop, link, fact["generation"], HelloMessage(**fact["hello"]), self)
            self._peers[member.generation] = member
            member.start()

    # --- members come and go

    def _join(self, link: SrpLink, admission: Admission, hello: HelloMessage) -> None:
        member = PeerV2(self._loop, link, admission.generation, hello, self)
        time_ms = int(self._limits.timeout_s * 1000)
        owner = admission.generation in self._settled
        member.send(WelcomeMessage(admission.generation, owner, self._limits.state_bytes_max, time_ms))
        self._joined(member)
        member.start()

    def _join_v1(self, sock: socket.socket, admission: Admission, framed: bool, start: bytes) -> None:
        peer = SuccessorV1(self._loop, sock, admission.generation, self, framed=framed)
        peer.feed(start)
        self._joined(peer)

    def _joined(self, peer: Peer) -> None:
        generation = peer.generation
        self._peers[generation] = peer
        handover = self._handover
        if handover is not None and handover.concerns(generation):
            handover.happen(HandoverEvent.GIVER_JOINED if generation == handover.giver else HandoverEvent.TAKER_JOINED)
        if generation not in self._settled:
            self._report(HandoverEvent.JOINED, generation, "")

    def left(self, member: Peer) -> None:
        if self._peers.get(member.generation) is not member:
            return
        del self._peers[member.generation]
        handover = self._handover
        if handover is not None and handover.concerns(member.generation):
            handover.happen(
                HandoverEvent.GIVER_HUNG_UP if member.generation == handover.giver else HandoverEvent.TAKER_HUNG_UP
            )

    def heard(self, member: Peer, message: Message, fds: list[int], size: int) -> None:
        handover = self._handover
        if isinstance(message, ListenersMessage):
            self._answer_listeners(member)
        elif handover is not None and member.generation == handover.giver:
            handover.from_giver(message, fds, size)
        elif handover is not None and member.generation == handover.taker:
            close_all(fds)
            handover.from_taker(message)
        else:
            close_all(fds)  # an answer to a hand-over that is already over

    def drained(self, member: Peer) -> None:
        if self._handover is not None:
            self._handover.drained(member.generation)

    def refused(self, member: Peer, breach: Breach) -> None:
        self._count_refusal(breach.reason)
        handover = self._handover
        if handover is not None and member.generation == handover.giver:
            handover.happen(HandoverEvent.EXPORT_FAILED, breach.reason)

    def _pushed(self, admission: Admission, text: bytes) -> None:
        checkpoint = Checkpoint.of(read_state(text))
        self._drop_checkpoint()
        self._checkpoint = checkpoint
        self._facts["state_bytes"] += checkpoint.size

    def _answer_listeners(self, member: Peer) -> None:
        found = self._listeners(member.generation)[:200]
        member.send(ListenersMessage([name for name, _ in found]), [os.dup(fd) for _, fd in found])

    def _count_refusal(self, reason: Reason) -> None:
        self._facts[f"rejected:{reason}"] += 1

    # --- the hand-over

    def _begin(self, old: int | None, new: int, *, reverse: bool = False) -> None:
        self._close_handover()
        self._regained.clear()
        services = BrokerServices(
            loop=self._loop,
            peer=self._peers.get,
            number=self._next_session,
            checkpoint=lambda: self._checkpoint,
            kill=self._kill,
            tell=self._tell,
        )
        limits = self._limits
        handover = Handover(
            services, old, new, bytes_max=limits.state_bytes_max, time_s=limits.timeout_s, reverse=reverse
        )
        self._handover = handover
        handover.start()

    def _order(self, event: HandoverEvent) -> None:
        if self._handover is not None:
            self._handover.happen(event)

    def _tell(self, handover: Handover, event: HandoverEvent, reason: Reason | None) -> None:
        if handover.reverse:
            self._tell_reverse(handover, event, reason)
            return
        if reason is not None:
            self._count_refusal(reason)
            if handover.soaked and handover.giver is not None:
                self._regained.add(handover.giver)  # the old process owns already; return_state() will report it
                return
        elif event in (HandoverEvent.READY, HandoverEvent.SKIPPED):
            self._count_success(handover)
        self._report(event, handover.taker, reason or "")

    def _tell_reverse(self, handover: Handover, event: HandoverEvent, reason: Reason | None) -> None:
        """The broker orders the steps of a return itself: the supervisor has already decided to go back."""
        new, old = handover.giver, handover.taker
        assert new is not None
        match event:
            case HandoverEvent.PREPARED:
                handover.happen(HandoverEvent.COMMIT)
            case HandoverEvent.INSTALLED:
                handover.happen(HandoverEvent.RELEASE)
            case HandoverEvent.READY:
                self._settled.discard(new)
                self._report(HandoverEvent.RETURNED, new, "")
            case HandoverEvent.FAILED if old not in self._admissions:
                self._report(HandoverEvent.FAILED, new, reason or "")
            case HandoverEvent.FAILED:
                self._fence_for_return(new, old)

    def _fence_for_return(self, new: int, old: int) -> None:
        """The successor does not give its state back: kill it, and resume the old process with the deltas it
        received."""
        if new in self._admissions:
            self._fenced_return = (new, old)
            self._order(HandoverEvent.ABORT)
            self._kill(new)
        else:
            self._resume_old(new, old)

    def _resume_old(self, new: int, old: int) -> None:
        self._fenced_return = None
        peer = self._peers.get(old)
        if peer is not None:
            peer.send(ResumeMessage(self._sessions, claimed=True))
        self._close_handover()
        self._settled.discard(new)
        self._report(HandoverEvent.RETURNED, new, "")

    def _count_success(self, handover: Handover) -> None:
        self._settled.add(handover.taker)
        self._facts["state_bytes"] += handover.flow.bytes
        self._facts["connections"] += handover.flow.connections
        self._drop_checkpoint()

    def _drop_checkpoint(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()
            self._checkpoint = None

    def _close_handover(self) -> None:
        if self._handover is not None:
            self._handover.close()
            self._handover = None

    def _next_session(self) -> int:
        self._sessions += 1
        return self._sessions

    def _kill(self, generation: int) -> None:
        """The process is a child that was not reaped, so its pid cannot belong to another process."""
        admission = self._admissions.get(generation)
        if admission is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(admission.pid, signal.SIGKILL)
