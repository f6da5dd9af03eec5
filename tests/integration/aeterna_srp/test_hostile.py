"""Wrong state of every kind, and hostile peers: always detected, and the old process goes on serving."""

import fcntl
import hashlib
import os
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from aeterna.srp.wire import claim, sealed
from aeterna.srp.wire.frames import encode
from aeterna.srp.wire.messages import (
    AbortMessage,
    ChunkMessage,
    ColdMessage,
    ConnectionsMessage,
    EndMessage,
    ErrorMessage,
    HelloMessage,
    OfferMessage,
    PartMessage,
    PrepareMessage,
    ResumeMessage,
    to_frame,
)
from aeterna.srp.wire.state import pack
from aeterna.table.events import HandoverEvent
from aeterna.table.reasons import Reason

from tests.integration.aeterna_srp.running_broker import RunningBroker, ScriptedMember, running_broker

PACKED = pack({"x": 1, "y": "z" * 1000})
DATA = b"".join(bytes(piece) for piece in PACKED.pieces())
DIGEST = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)
MANIFEST = len(PACKED.manifest)


def chunked(member: ScriptedMember, session: int, data: bytes = DATA, digest: str = DIGEST, size: int = SIZE) -> None:
    member.say(OfferMessage(session))
    member.say(PartMessage(session, size, MANIFEST, digest))
    member.say(ChunkMessage(data))
    member.say(EndMessage(session, 1, 0))


def memfd(member: ScriptedMember, session: int, data: bytes, *, seal: bool = True, size: int | None = None) -> None:
    fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seal:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sealed.SEALS)
    member.say(OfferMessage(session))
    member.say(PartMessage(session, size or len(data), MANIFEST, DIGEST, memfd=True), (fd,))
    member.say(EndMessage(session, 1, 0))
    os.close(fd)


def not_a_memfd(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    with Path("/dev/null").open() as null:
        member.say(PartMessage(session, SIZE, MANIFEST, DIGEST, memfd=True), (null.fileno(),))


def bad_manifest(member: ScriptedMember, session: int) -> None:
    data = b'{"set":{"x":[0,99999,"json"]},"drop":[]}' + b"1"
    member.say(OfferMessage(session))
    member.say(PartMessage(session, len(data), len(data) - 1, hashlib.sha256(data).hexdigest()))
    member.say(ChunkMessage(data))
    member.say(EndMessage(session, 1, 0))


def pickled(member: ScriptedMember, session: int) -> None:
    data = b'{"set":{"x":[0,1,"pickle"]},"drop":[]}' + b"."
    member.say(OfferMessage(session))
    member.say(PartMessage(session, len(data), len(data) - 1, hashlib.sha256(data).hexdigest()))
    member.say(ChunkMessage(data))
    member.say(EndMessage(session, 1, 0))


def missing_part(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    member.say(EndMessage(session, 1, 0))


def missing_bytes(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    member.say(PartMessage(session, SIZE, MANIFEST, DIGEST))
    member.say(ChunkMessage(DATA[:-1]))
    member.say(EndMessage(session, 1, 0))


def missing_connections(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    member.say(EndMessage(session, 0, 3))


def too_large(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    member.say(PartMessage(session, 2**40, MANIFEST, DIGEST))


def too_many_small_ones(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    for _ in range(40):
        member.say(PartMessage(session, 30_000, 2, hashlib.sha256(b"{}" + bytes(29_998)).hexdigest()))
        member.say(ChunkMessage(b"{}" + bytes(29_998)))


def heavy_connections(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    one, other = socket.socketpair()
    for _ in range(6):
        member.say(ConnectionsMessage(session, [{"id": 0, "app": "x" * 200_000, "unread": ""}]), (one.fileno(),))
    one.close()
    other.close()


def out_of_order(member: ScriptedMember, session: int) -> None:
    member.say(OfferMessage(session))
    member.say(OfferMessage(session))


WRONG: dict[str, tuple[Reason, Callable[[ScriptedMember, int], None]]] = {
    "a flipped bit in chunks": (Reason.CORRUPT, lambda p, s: chunked(p, s, bytes([DATA[0] ^ 1]) + DATA[1:])),
    "a flipped bit in a memfd": (Reason.CORRUPT, lambda p, s: memfd(p, s, DATA[:-1] + bytes([DATA[-1] ^ 1]))),
    "another checksum": (Reason.CORRUPT, lambda p, s: chunked(p, s, digest="0" * 64)),
    "a manifest that points outside": (Reason.CORRUPT, bad_manifest),
    "a pickle": (Reason.CORRUPT, pickled),
    "an unsealed memfd": (Reason.PROTOCOL, lambda p, s: memfd(p, s, DATA, seal=False)),
    "no memfd": (Reason.PROTOCOL, not_a_memfd),
    "a short memfd": (Reason.TRUNCATED, lambda p, s: memfd(p, s, DATA[:-1], size=SIZE)),
    "a long memfd": (Reason.OVERSIZED, lambda p, s: memfd(p, s, DATA + b"x", size=SIZE)),
    "a part that is missing": (Reason.TRUNCATED, missing_part),
    "bytes that are missing": (Reason.TRUNCATED, missing_bytes),
    "connections that are missing": (Reason.TRUNCATED, missing_connections),
    "more than a part": (Reason.OVERSIZED, lambda p, s: chunked(p, s, DATA + b"x")),
    "too large": (Reason.OVERSIZED, too_large),
    "too many": (Reason.OVERSIZED, too_many_small_ones),
    "heavy connections": (Reason.OVERSIZED, heavy_connections),
    "two offers": (Reason.PROTOCOL, out_of_order),
    "another schema": (Reason.SCHEMA, lambda p, s: p.say(OfferMessage(s, "other", 0))),
    "a newer version": (Reason.SCHEMA, lambda p, s: p.say(OfferMessage(s, "", 9))),
    "nothing but an excuse": (Reason.DUMP_FAILED, lambda p, s: p.say(AbortMessage(s, Reason.DUMP_FAILED))),
    "silence": (Reason.DUMP_TIMEOUT, lambda p, s: None),
    "an end that does not come": (Reason.DUMP_TIMEOUT, lambda p, s: p.say(OfferMessage(s))),
}


@pytest.mark.parametrize(("reason", "send"), WRONG.values(), ids=WRONG.keys())
def test_wrong_state_is_refused_and_the_old_one_resumes(
    tmp_path: Path, reason: Reason, send: Callable[[ScriptedMember, int], None]
) -> None:
    with running_broker(tmp_path, timeout_s=0.6, state_bytes_max=1_000_000) as running:
        old = running.member(1)
        old.hears(ColdMessage)
        running.broker._settled.add(1)
        new = running.upgrade(1, 2)

        send(old, old.hears(PrepareMessage).session)
        resumed = old.hears(ResumeMessage)
        failed = running.until(lambda: new.said("fails"))

        assert running.saw(HandoverEvent.FAILED, 2) == reason
        assert not resumed.claimed
        assert failed["reason"] in (reason, "aborted")
        assert new.said("owns") is None
        assert running.broker.facts()[f"rejected:{reason}"] >= 1


def test_the_same_state_unharmed_is_taken(tmp_path: Path) -> None:
    """The control: without the errors of the tests above, the same state is accepted."""
    with running_broker(tmp_path, timeout_s=2.0, state_bytes_max=1_000_000) as running:
        old = running.member(1)
        old.hears(ColdMessage)
        running.broker._settled.add(1)
        new = running.upgrade(1, 2)

        chunked(old, old.hears(PrepareMessage).session)

        assert running.until(lambda: new.said("owns"))["state"] == {"x": 1, "y": "z" * 1000}


def test_cold_start_is_a_policy(running: RunningBroker) -> None:
    running.cold_start = True
    running.first('state={"x": 1}', "fail=export")

    new = running.upgrade(1, 2)
    owns = running.until(lambda: new.said("owns"))
    running.until(lambda: running.saw(HandoverEvent.SKIPPED, 2) is not None)

    assert owns["state"] == {}


@pytest.mark.parametrize("where", ["export", "freeze"])
def test_a_program_that_cannot_export_serves_on(running: RunningBroker, where: str) -> None:
    old = running.first('state={"x": 1}', f"fail={where}")

    new = running.upgrade(1, 2)
    running.until(lambda: new.said("fails"))

    assert running.saw(HandoverEvent.FAILED, 2) == Reason.DUMP_FAILED
    assert old.process.poll() is None
    if where == "freeze":
        running.until(lambda: old.said("resumes"))


def test_a_successor_that_hangs_before_prepared_is_given_up(tmp_path: Path) -> None:
    with running_broker(tmp_path, timeout_s=0.6) as running:
        old = running.first('state={"x": 1}')

        running.upgrade(1, 2, "hang=before PREPARED")
        running.until(lambda: old.said("resumes"))

        assert running.saw(HandoverEvent.FAILED, 2) == Reason.LATE


def test_a_giver_without_a_broker_s_word_takes_its_state_back(tmp_path: Path) -> None:
    """The broker hangs after END: the claim decides, and late orders of the broker change nothing."""
    with running_broker(tmp_path, timeout_s=0.4) as running:
        running.commits = False
        old = running.first('state={"x": 1}')
        new = running.upgrade(1, 2, "hold=1")
        running.until(lambda: old.said("freezes"))
        running.until(lambda: new.said("holds"))
        deadline = time.monotonic() + 5

        while old.said("resumes") is None:  # without a turn of the broker's loop
            assert time.monotonic() < deadline
            time.sleep(0.01)

        assert new.said("owns") is None


def test_a_giver_that_waits_in_vain_does_not_serve_beside_a_claimant(tmp_path: Path) -> None:
    """The taker has claimed, and the broker hangs: the giver's time limit ends, the claim is empty, it stays frozen."""
    with running_broker(tmp_path, timeout_s=0.3) as running:
        old = running.first('state={"x": 1}')
        running.skips = set()
        new = running.member(2)
        running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        new.hears_release()
        assert claim.take(new.fds[-1])
        asked = time.monotonic()

        while time.monotonic() < asked + 1.0:  # without a turn of the broker's loop
            assert old.said("resumes") is None
            time.sleep(0.01)
        running.until(lambda: running.children[2].dead)  # the broker's time limit ends too: it kills the taker

        running.until(lambda: old.said("resumes"))


def test_a_successor_that_hangs_after_release_is_killed_first(tmp_path: Path) -> None:
    with running_broker(tmp_path, timeout_s=0.5) as running:
        old = running.first('state={"x": 1}')

        new = running.upgrade(1, 2, "hang=heard RELEASE")
        running.until(lambda: old.said("resumes"))

        assert new.process.poll() == -9
        assert running.saw(HandoverEvent.FAILED, 2) == Reason.LATE


# --- unknown clients


def refusals(running: RunningBroker, reason: Reason) -> float:
    return running.broker.facts().get(f"rejected:{reason}", 0)


def knock(running: RunningBroker, data: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(running.path)
    if data:
        sock.sendall(data)
    sock.setblocking(False)
    return sock


def ended(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


HELLO_FRAME = encode(to_frame(HelloMessage("f" * 64)))
UNIDENTIFIED: dict[str, tuple[Reason, bytes]] = {
    "a wrong token": (Reason.UNAUTHORISED, HELLO_FRAME),
    "no token": (Reason.UNAUTHORISED, encode(to_frame(HelloMessage("")))),
    "another magic": (Reason.PROTOCOL, struct.pack(">IIBBH", 10, 0xDEADBEEF, 2, 1, 0) + b"{}"),
    "a large HELLO": (Reason.OVERSIZED, struct.pack(">IIBBH", 8 + 5000, 0xAE7E2024, 2, 1, 0)),
    "a length of 4 GiB": (Reason.OVERSIZED, struct.pack(">IIBBH", 0xFFFFFFFF, 0xAE7E2024, 2, 1, 0)),
    "another version": (Reason.PROTOCOL, struct.pack(">IIBBH", 10, 0xAE7E2024, 3, 1, 0) + b"{}"),
    "another first word": (Reason.PROTOCOL, struct.pack(">IIBBH", 10, 0xAE7E2024, 2, 0x18, 0) + b"{}"),
    "HTTP": (Reason.PROTOCOL, b"GET / HTTP/1.1\r\n\r\n"),
    "white space for ever": (Reason.PROTOCOL, b" " * 4096),
    "not JSON": (Reason.PROTOCOL, struct.pack(">IIBBH", 9, 0xAE7E2024, 2, 1, 0) + b"["),
    "a push from nowhere": (Reason.UNAUTHORISED, b'{"x": 1}'),
}


@pytest.mark.parametrize(("reason", "words"), UNIDENTIFIED.values(), ids=UNIDENTIFIED.keys())
def test_an_unknown_client_is_refused_without_harm_to_members(
    running: RunningBroker, reason: Reason, words: bytes
) -> None:
    running.first('state={"x": 1}')

    with knock(running, words) as stranger:
        running.until(lambda: refusals(running, reason) == 1)
        running.until(lambda: ended(stranger))

    new = running.upgrade(1, 2)
    assert running.until(lambda: new.said("owns"))["state"]["x"] == 1


def test_silent_connections_are_limited_and_closed(tmp_path: Path) -> None:
    with running_broker(tmp_path, idle_s=0.4) as running:
        crowd = []
        for _ in range(20):
            crowd.append(knock(running))
            running.turn()
        running.until(lambda: refusals(running, Reason.OVERSIZED) >= 12)
        assert len(running.broker._acceptor._unidentified) <= 8

        running.until(lambda: all(ended(each) for each in crowd))
        for each in crowd:
            each.close()

        first = running.first()
        assert first.said("owns") is not None


def test_a_token_admits_one(running: RunningBroker) -> None:
    running.first()
    token = running.broker._admissions[1].token

    with knock(running, encode(to_frame(HelloMessage(token)))) as second:
        running.until(lambda: refusals(running, Reason.UNAUTHORISED) == 1)
        running.until(lambda: ended(second))


def test_a_dismissed_generation_s_token_is_void(running: RunningBroker) -> None:
    running.first()
    token = running.broker._admissions[1].token
    running.kill(1)

    with knock(running, encode(to_frame(HelloMessage(token)))) as late:
        running.until(lambda: refusals(running, Reason.UNAUTHORISED) == 1)
        running.until(lambda: ended(late))


def test_a_member_that_breaks_a_frame_gets_an_error_and_the_upgrade_fails(running: RunningBroker) -> None:
    old = running.member(1)
    old.hears(ColdMessage)
    running.broker._settled.add(1)
    new = running.upgrade(1, 2)
    old.hears(PrepareMessage)

    old.link.send_raw(b"garbage, not a frame")
    error = old.hears(ErrorMessage)
    running.until(lambda: new.said("fails"))

    assert error.reason == Reason.PROTOCOL
    assert running.saw(HandoverEvent.FAILED, 2) == Reason.PROTOCOL


def test_the_socket_is_its_owner_s_alone_from_the_first_moment(running: RunningBroker) -> None:
    assert Path(running.path).stat().st_mode & 0o777 == 0o600


def test_descriptors_do_not_leak(running: RunningBroker) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    running.first('state={"x": 1}')
    counts = []
    for generation in range(2, 7):
        child = running.upgrade(generation - 1, generation)
        running.until(partial(child.said, "owns"))
        running.until(lambda g=generation: running.saw(HandoverEvent.READY, g) is not None)  # type: ignore[misc]
        running.broker.settle()
        running.kill(generation - 1)
        counts.append(count())

    assert max(counts[1:]) <= counts[0]
