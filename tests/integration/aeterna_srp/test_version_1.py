"""The five dialects of version 1, each with the answers that its clients expect."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest
from aeterna.srp.peer_v1 import V1_STATE_MAX
from aeterna.srp.wire.frames import MAGIC
from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Reason

from tests.integration.aeterna_srp.running_broker import RunningBroker

STATE = {"context": ["a", "b"], "n": 1}
TEXT = json.dumps(STATE).encode()
ACK = struct.pack(">IIBBH", 8, MAGIC, 1, 0xFF, 0)


def frame(kind: int, payload: bytes = b"", reserved: int = 0) -> bytes:
    return struct.pack(">IIBBH", 8 + len(payload), MAGIC, 1, kind, reserved) + payload


class OldTimer:
    """A process of version 1, played by the test's own process, which the broker knows by its pid."""

    def __init__(self, running: RunningBroker, generation: int) -> None:
        self.running = running
        self.got = b""
        self.ended = False
        running.broker.admit(generation, os.getpid(), "not used in version 1")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(running.path)
        self.sock.setblocking(False)

    def say(self, data: bytes) -> None:
        rest = memoryview(data)

        def push() -> bool:
            nonlocal rest
            try:
                while rest:
                    rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                pass
            return True

        self.running.until(push)

    def hears(self, count: int) -> bytes:
        self.running.until(lambda: (self._look() and len(self.got) >= count) or self.ended)
        return self.got

    def hears_all(self) -> bytes:
        self.running.until(lambda: self._look() and self.ended)
        return self.got

    def _look(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            self.got += data
            self.ended = not data
        return True

    def close(self) -> None:
        self.sock.close()


PUSHES = {
    "framed": (frame(0x02, TEXT), ACK),
    "framed, reserved set": (frame(0x02, TEXT, 0xBEEF), ACK),
    "length and JSON": (struct.pack(">I", len(TEXT)) + TEXT, ACK),
    "bare JSON": (TEXT, b""),
    "bare JSON after white space": (b" \n\t" + TEXT, b""),
}


@pytest.mark.parametrize(("push", "answer"), PUSHES.values(), ids=PUSHES.keys())
def test_state_pushed_by_a_version_1_process_goes_to_the_next_process(
    running: RunningBroker, push: bytes, answer: bytes
) -> None:
    old = OldTimer(running, 1)
    old.say(push)
    if not answer:
        old.sock.shutdown(socket.SHUT_WR)

    assert old.hears_all() == answer
    old.close()
    running.broker.dismiss(1)

    running.skips.add(2)
    new = running.spawn(2)
    owns = running.until(lambda: new.said("owns"))

    assert owns["state"] == STATE
    assert running.saw(HandoverEvent.SKIPPED, 2) is not None


def test_a_push_byte_by_byte_is_the_same(running: RunningBroker) -> None:
    old = OldTimer(running, 1)
    for byte in frame(0x02, TEXT):
        old.say(bytes([byte]))
        running.turn()

    assert old.hears_all() == ACK
    old.close()


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "silent"])
def test_a_version_1_successor_gets_the_state(running: RunningBroker, framed: bool) -> None:
    running.first(f"state={TEXT.decode()}")
    new = OldTimer(running, 2)
    if framed:
        new.say(frame(0x01, b'{"v": 1}'))
    running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
    running.broker.prepare(1, 2)

    text = new.hears(12 + len(TEXT))[12:] if framed else new.hears_all()
    if framed:
        assert new.got[:12] == struct.pack(">IIBBH", 8 + len(text), MAGIC, 1, 0x02, 0)
        assert running.saw(HandoverEvent.READY) is None
        new.say(ACK)

    assert json.loads(text) == STATE | {"frozen": True}
    running.until(lambda: running.saw(HandoverEvent.READY, 2) is not None)
    new.close()


def test_a_cold_start_of_a_version_1_successor_is_an_empty_object(running: RunningBroker) -> None:
    running.skips.add(1)
    new = OldTimer(running, 1)

    assert json.loads(new.hears_all()) == {}
    new.close()


def test_a_version_1_successor_that_dies_before_its_answer_has_taken_nothing(running: RunningBroker) -> None:
    old = running.first(f"state={TEXT.decode()}")
    new = OldTimer(running, 2)
    new.say(frame(0x01))
    running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
    running.broker.prepare(1, 2)
    new.hears(12 + len(TEXT))

    new.close()
    running.until(lambda: old.said("resumes"))

    assert running.saw(HandoverEvent.FAILED, 2) == Reason.SUCCESSOR_HUNG_UP


def test_a_version_1_successor_cannot_take_bytes(running: RunningBroker) -> None:
    old = running.first("size=1048576")
    new = OldTimer(running, 2)
    new.say(frame(0x01))
    running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
    running.broker.prepare(1, 2)
    running.until(lambda: old.said("resumes"))

    assert running.saw(HandoverEvent.FAILED, 2) == Reason.LOAD_REFUSED
    new.close()


REFUSED: dict[str, tuple[bytes, Reason]] = {
    "Protobuf": (frame(0x03, b"\x08\x01"), Reason.PROTOCOL),
    "an ACK out of the blue": (ACK, Reason.PROTOCOL),
    "half a frame": (frame(0x02, TEXT)[:-3], Reason.TRUNCATED),
    "broken JSON": (b'{"x": ', Reason.CORRUPT),
    "a list": (frame(0x02, b"[1, 2]"), Reason.CORRUPT),
    "endless nesting": (b'{"x":' + b"[" * 100_000, Reason.CORRUPT),
    "too large, framed": (struct.pack(">IIBBH", V1_STATE_MAX + 100, MAGIC, 1, 0x02, 0), Reason.OVERSIZED),
    "too large, with a length": (struct.pack(">I", V1_STATE_MAX + 1) + b"{", Reason.OVERSIZED),
    "too large, bare": (b'{"x":"' + b"x" * (V1_STATE_MAX + 100), Reason.OVERSIZED),
}


@pytest.mark.parametrize(("push", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_push_is_refused_and_nothing_is_kept(running: RunningBroker, push: bytes, reason: Reason) -> None:
    old = OldTimer(running, 1)
    old.say(push)
    with contextlib.suppress(OSError):
        old.sock.shutdown(socket.SHUT_WR)
    running.until(lambda: running.broker.facts().get(f"rejected:{reason}"))
    old.hears_all()
    old.close()
    running.broker.dismiss(1)

    running.skips.add(2)
    new = running.spawn(2)

    assert running.until(lambda: new.said("owns"))["state"] == {}


def test_a_process_of_another_session_is_refused(running: RunningBroker) -> None:
    running.first()
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(b'{\"x\": 1}'); s.shutdown(1); s.recv(1)"
    )
    other: Any = subprocess.Popen([sys.executable, "-c", code, running.path], start_new_session=True)
    running.until(lambda: running.broker.facts().get(f"rejected:{Reason.UNAUTHORISED}"))
    running.until(lambda: other.poll() is not None)


def test_few_push_at_once(running: RunningBroker) -> None:
    """The bytes of an unfinished push are held in PID 1's memory, so their number is limited."""
    pushers = []
    for _ in range(5):
        pushers.append(OldTimer(running, 1))
        pushers[-1].say(b'{"x": "')
        running.turn()
    running.until(lambda: running.broker.facts().get(f"rejected:{Reason.OVERSIZED}") == 3)

    assert len(running.broker._acceptor._predecessors) == 2
    for pusher in pushers:
        pusher.close()
