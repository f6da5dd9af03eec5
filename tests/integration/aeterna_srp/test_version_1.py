"""The five dialects that the sources of the seed describe, each with what it expects."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest
from aeterna.srp.broker.broker import Happening
from aeterna.srp.broker.checkpoint import V1_STATE_MAX
from aeterna.srp.wire.frames import MAGIC
from aeterna.table.reasons import Reason

from tests.integration.aeterna_srp.running_broker import Stage

STATE = {"context": ["a", "b"], "n": 1}
TEXT = json.dumps(STATE).encode()
ACK = struct.pack(">IIBBH", 8, MAGIC, 1, 0xFF, 0)


def frame(kind: int, payload: bytes = b"", reserved: int = 0) -> bytes:
    return struct.pack(">IIBBH", 8 + len(payload), MAGIC, 1, kind, reserved) + payload


class OldTimer:
    """A process of version 1, played by the test's own: it is known by its pid."""

    def __init__(self, stage: Stage, generation: int) -> None:
        self.stage = stage
        self.got = b""
        self.ended = False
        stage.broker.admit(generation, os.getpid(), "not used in version 1")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(stage.path)
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

        self.stage.until(push)

    def hears(self, count: int) -> bytes:
        self.stage.until(lambda: (self._look() and len(self.got) >= count) or self.ended)
        return self.got

    def hears_all(self) -> bytes:
        self.stage.until(lambda: self._look() and self.ended)
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
def test_what_an_old_timer_pushes_goes_to_the_next_process(stage: Stage, push: bytes, answer: bytes) -> None:
    old = OldTimer(stage, 1)
    old.say(push)
    if not answer:
        old.sock.shutdown(socket.SHUT_WR)

    assert old.hears_all() == answer
    old.close()
    stage.broker.dismiss(1)

    stage.skips.add(2)
    new = stage.spawn(2)
    owns = stage.until(lambda: new.said("owns"))

    assert owns["state"] == STATE
    assert stage.saw(Happening.SKIPPED, 2) is not None


def test_a_push_byte_by_byte_is_the_same(stage: Stage) -> None:
    old = OldTimer(stage, 1)
    for byte in frame(0x02, TEXT):
        old.say(bytes([byte]))
        stage.turn()

    assert old.hears_all() == ACK
    old.close()


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "silent"])
def test_an_old_timer_gets_what_this_one_has(stage: Stage, framed: bool) -> None:
    stage.first(f"state={TEXT.decode()}")
    new = OldTimer(stage, 2)
    if framed:
        new.say(frame(0x01, b'{"v": 1}'))
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
    stage.broker.prepare(1, 2)

    text = new.hears(12 + len(TEXT))[12:] if framed else new.hears_all()
    if framed:
        assert new.got[:12] == struct.pack(">IIBBH", 8 + len(text), MAGIC, 1, 0x02, 0)
        assert stage.saw(Happening.READY) is None
        new.say(ACK)

    assert json.loads(text) == STATE | {"frozen": True}
    stage.until(lambda: stage.saw(Happening.READY, 2) is not None)
    new.close()


def test_a_cold_start_of_an_old_timer_is_an_empty_object(stage: Stage) -> None:
    stage.skips.add(1)
    new = OldTimer(stage, 1)

    assert json.loads(new.hears_all()) == {}
    new.close()


def test_an_old_timer_that_dies_before_its_answer_has_taken_nothing(stage: Stage) -> None:
    old = stage.first(f"state={TEXT.decode()}")
    new = OldTimer(stage, 2)
    new.say(frame(0x01))
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
    stage.broker.prepare(1, 2)
    new.hears(12 + len(TEXT))

    new.close()
    stage.until(lambda: old.said("resumes"))

    assert stage.saw(Happening.FAILED, 2) == Reason.SUCCESSOR_HUNG_UP


def test_bytes_are_beyond_version_1(stage: Stage) -> None:
    old = stage.first("size=1048576")
    new = OldTimer(stage, 2)
    new.say(frame(0x01))
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
    stage.broker.prepare(1, 2)
    stage.until(lambda: old.said("resumes"))

    assert stage.saw(Happening.FAILED, 2) == Reason.LOAD_REFUSED
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
def test_a_wrong_push_is_refused_and_nothing_is_kept(stage: Stage, push: bytes, reason: Reason) -> None:
    old = OldTimer(stage, 1)
    old.say(push)
    with contextlib.suppress(OSError):
        old.sock.shutdown(socket.SHUT_WR)
    stage.until(lambda: stage.broker.facts().get(f"rejected:{reason}"))
    old.hears_all()
    old.close()
    stage.broker.dismiss(1)

    stage.skips.add(2)
    new = stage.spawn(2)

    assert stage.until(lambda: new.said("owns"))["state"] == {}


def test_a_process_of_another_session_is_nobody(stage: Stage) -> None:
    stage.first()
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(b'{\"x\": 1}'); s.shutdown(1); s.recv(1)"
    )
    other: Any = subprocess.Popen([sys.executable, "-c", code, stage.path], start_new_session=True)
    stage.until(lambda: stage.broker.facts().get(f"rejected:{Reason.UNAUTHORISED}"))
    stage.until(lambda: other.poll() is not None)


def test_few_push_at_once(stage: Stage) -> None:
    """What a push has brought so far is PID 1's memory."""
    pushers = []
    for _ in range(5):
        pushers.append(OldTimer(stage, 1))
        pushers[-1].say(b'{"x": "')
        stage.turn()
    stage.until(lambda: stage.broker.facts().get(f"rejected:{Reason.OVERSIZED}") == 3)

    assert len(stage.broker._porter._pushers) == 2
    for pusher in pushers:
        pusher.close()
