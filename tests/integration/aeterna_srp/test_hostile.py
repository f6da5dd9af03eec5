"""State that is wrong in every way, and peers that mean harm: always detected, and the old one serves on."""

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
from aeterna.srp.broker.broker import Happening
from aeterna.srp.wire import claim, sealed
from aeterna.srp.wire.frames import encode
from aeterna.srp.wire.messages import (
    Abort,
    Chunk,
    Cold,
    Connections,
    End,
    Error,
    Hello,
    Offer,
    Part,
    Prepare,
    Resume,
    to_frame,
)
from aeterna.srp.wire.state import pack
from aeterna.table.reasons import Reason

from tests.integration.aeterna_srp.running_broker import Puppet, Stage, a_stage

PACKED = pack({"x": 1, "y": "z" * 1000})
DATA = b"".join(bytes(piece) for piece in PACKED.pieces())
DIGEST = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)
MANIFEST = len(PACKED.manifest)


def chunked(puppet: Puppet, session: int, data: bytes = DATA, digest: str = DIGEST, size: int = SIZE) -> None:
    puppet.say(Offer(session))
    puppet.say(Part(session, size, MANIFEST, digest))
    puppet.say(Chunk(data))
    puppet.say(End(session, 1, 0))


def memfd(puppet: Puppet, session: int, data: bytes, *, seal: bool = True, size: int | None = None) -> None:
    fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seal:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sealed.SEALS)
    puppet.say(Offer(session))
    puppet.say(Part(session, size or len(data), MANIFEST, DIGEST, memfd=True), (fd,))
    puppet.say(End(session, 1, 0))
    os.close(fd)


def not_a_memfd(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    with Path("/dev/null").open() as null:
        puppet.say(Part(session, SIZE, MANIFEST, DIGEST, memfd=True), (null.fileno(),))


def bad_manifest(puppet: Puppet, session: int) -> None:
    data = b'{"set":{"x":[0,99999,"json"]},"drop":[]}' + b"1"
    puppet.say(Offer(session))
    puppet.say(Part(session, len(data), len(data) - 1, hashlib.sha256(data).hexdigest()))
    puppet.say(Chunk(data))
    puppet.say(End(session, 1, 0))


def pickled(puppet: Puppet, session: int) -> None:
    data = b'{"set":{"x":[0,1,"pickle"]},"drop":[]}' + b"."
    puppet.say(Offer(session))
    puppet.say(Part(session, len(data), len(data) - 1, hashlib.sha256(data).hexdigest()))
    puppet.say(Chunk(data))
    puppet.say(End(session, 1, 0))


def missing_part(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    puppet.say(End(session, 1, 0))


def missing_bytes(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    puppet.say(Part(session, SIZE, MANIFEST, DIGEST))
    puppet.say(Chunk(DATA[:-1]))
    puppet.say(End(session, 1, 0))


def missing_connections(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    puppet.say(End(session, 0, 3))


def too_large(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    puppet.say(Part(session, 2**40, MANIFEST, DIGEST))


def too_many_small_ones(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    for _ in range(40):
        puppet.say(Part(session, 30_000, 2, hashlib.sha256(b"{}" + bytes(29_998)).hexdigest()))
        puppet.say(Chunk(b"{}" + bytes(29_998)))


def heavy_connections(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    one, other = socket.socketpair()
    for _ in range(6):
        puppet.say(Connections(session, [{"id": 0, "app": "x" * 200_000, "unread": ""}]), (one.fileno(),))
    one.close()
    other.close()


def out_of_order(puppet: Puppet, session: int) -> None:
    puppet.say(Offer(session))
    puppet.say(Offer(session))


WRONG: dict[str, tuple[Reason, Callable[[Puppet, int], None]]] = {
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
    "another schema": (Reason.SCHEMA, lambda p, s: p.say(Offer(s, "other", 0))),
    "a newer version": (Reason.SCHEMA, lambda p, s: p.say(Offer(s, "", 9))),
    "nothing but an excuse": (Reason.DUMP_FAILED, lambda p, s: p.say(Abort(s, Reason.DUMP_FAILED))),
    "silence": (Reason.DUMP_TIMEOUT, lambda p, s: None),
    "an end that does not come": (Reason.DUMP_TIMEOUT, lambda p, s: p.say(Offer(s))),
}


@pytest.mark.parametrize(("reason", "send"), WRONG.values(), ids=WRONG.keys())
def test_wrong_state_is_refused_and_the_old_one_resumes(
    tmp_path: Path, reason: Reason, send: Callable[[Puppet, int], None]
) -> None:
    with a_stage(tmp_path, timeout_s=0.6, state_bytes_max=1_000_000) as stage:
        old = stage.puppet(1)
        old.hears(Cold)
        stage.broker._settled.add(1)
        new = stage.upgrade(1, 2)

        send(old, old.hears(Prepare).session)
        resumed = old.hears(Resume)
        failed = stage.until(lambda: new.said("fails"))

        assert stage.saw(Happening.FAILED, 2) == reason
        assert not resumed.claimed
        assert failed["reason"] in (reason, "aborted")
        assert new.said("owns") is None
        assert stage.broker.facts()[f"rejected:{reason}"] >= 1


def test_the_same_state_unharmed_is_taken(tmp_path: Path) -> None:
    """The control: what the tests above break is otherwise good."""
    with a_stage(tmp_path, timeout_s=2.0, state_bytes_max=1_000_000) as stage:
        old = stage.puppet(1)
        old.hears(Cold)
        stage.broker._settled.add(1)
        new = stage.upgrade(1, 2)

        chunked(old, old.hears(Prepare).session)

        assert stage.until(lambda: new.said("owns"))["state"] == {"x": 1, "y": "z" * 1000}


def test_cold_start_is_a_policy(stage: Stage) -> None:
    stage.cold_start = True
    stage.first('state={"x": 1}', "fail=export")

    new = stage.upgrade(1, 2)
    owns = stage.until(lambda: new.said("owns"))
    stage.until(lambda: stage.saw(Happening.SKIPPED, 2) is not None)

    assert owns["state"] == {}


@pytest.mark.parametrize("where", ["export", "freeze"])
def test_a_program_that_cannot_export_serves_on(stage: Stage, where: str) -> None:
    old = stage.first('state={"x": 1}', f"fail={where}")

    new = stage.upgrade(1, 2)
    stage.until(lambda: new.said("fails"))

    assert stage.saw(Happening.FAILED, 2) == Reason.DUMP_FAILED
    assert old.process.poll() is None
    if where == "freeze":
        stage.until(lambda: old.said("resumes"))


def test_a_successor_that_hangs_before_prepared_is_given_up(tmp_path: Path) -> None:
    with a_stage(tmp_path, timeout_s=0.6) as stage:
        old = stage.first('state={"x": 1}')

        stage.upgrade(1, 2, "hang=before PREPARED")
        stage.until(lambda: old.said("resumes"))

        assert stage.saw(Happening.FAILED, 2) == Reason.LATE


def test_a_giver_without_a_broker_s_word_takes_its_state_back(tmp_path: Path) -> None:
    """The broker hangs after END: the claim decides, and late orders of the broker change nothing."""
    with a_stage(tmp_path, timeout_s=0.4) as stage:
        stage.commits = False
        old = stage.first('state={"x": 1}')
        new = stage.upgrade(1, 2, "hold=1")
        stage.until(lambda: old.said("freezes"))
        stage.until(lambda: new.said("holds"))
        deadline = time.monotonic() + 5

        while old.said("resumes") is None:  # without a turn of the broker's loop
            assert time.monotonic() < deadline
            time.sleep(0.01)

        assert new.said("owns") is None


def test_a_giver_that_waits_in_vain_does_not_serve_beside_a_claimant(tmp_path: Path) -> None:
    """The taker has claimed, and the broker hangs: the giver's patience ends, the claim is empty, it stands still."""
    with a_stage(tmp_path, timeout_s=0.3) as stage:
        old = stage.first('state={"x": 1}')
        stage.skips = set()
        new = stage.puppet(2)
        stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
        stage.broker.prepare(1, 2)
        new.hears_release()
        assert claim.take(new.fds[-1])
        asked = time.monotonic()

        while time.monotonic() < asked + 1.0:  # without a turn of the broker's loop
            assert old.said("resumes") is None
            time.sleep(0.01)
        stage.until(lambda: stage.children[2].dead)  # the broker's patience ends too: it kills the claimant

        stage.until(lambda: old.said("resumes"))


def test_a_successor_that_hangs_after_release_is_killed_first(tmp_path: Path) -> None:
    with a_stage(tmp_path, timeout_s=0.5) as stage:
        old = stage.first('state={"x": 1}')

        new = stage.upgrade(1, 2, "hang=heard RELEASE")
        stage.until(lambda: old.said("resumes"))

        assert new.process.poll() == -9
        assert stage.saw(Happening.FAILED, 2) == Reason.LATE


# --- strangers


def refusals(stage: Stage, reason: Reason) -> float:
    return stage.broker.facts().get(f"rejected:{reason}", 0)


def knock(stage: Stage, data: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(stage.path)
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


HELLO_FRAME = encode(to_frame(Hello("f" * 64)))
STRANGERS: dict[str, tuple[Reason, bytes]] = {
    "a wrong token": (Reason.UNAUTHORISED, HELLO_FRAME),
    "no token": (Reason.UNAUTHORISED, encode(to_frame(Hello("")))),
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


@pytest.mark.parametrize(("reason", "words"), STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_turned_away_and_nobody_is_harmed(stage: Stage, reason: Reason, words: bytes) -> None:
    stage.first('state={"x": 1}')

    with knock(stage, words) as stranger:
        stage.until(lambda: refusals(stage, reason) == 1)
        stage.until(lambda: ended(stranger))

    new = stage.upgrade(1, 2)
    assert stage.until(lambda: new.said("owns"))["state"]["x"] == 1


def test_the_silent_are_few_and_do_not_stay(tmp_path: Path) -> None:
    with a_stage(tmp_path, idle_s=0.4) as stage:
        crowd = []
        for _ in range(20):
            crowd.append(knock(stage))
            stage.turn()
        stage.until(lambda: refusals(stage, Reason.OVERSIZED) >= 12)
        assert len(stage.broker._porter._strangers) <= 8

        stage.until(lambda: all(ended(each) for each in crowd))
        for each in crowd:
            each.close()

        first = stage.first()
        assert first.said("owns") is not None


def test_a_token_admits_one(stage: Stage) -> None:
    stage.first()
    token = stage.broker._admissions[1].token

    with knock(stage, encode(to_frame(Hello(token)))) as second:
        stage.until(lambda: refusals(stage, Reason.UNAUTHORISED) == 1)
        stage.until(lambda: ended(second))


def test_a_dismissed_generation_s_token_is_void(stage: Stage) -> None:
    stage.first()
    token = stage.broker._admissions[1].token
    stage.kill(1)

    with knock(stage, encode(to_frame(Hello(token)))) as late:
        stage.until(lambda: refusals(stage, Reason.UNAUTHORISED) == 1)
        stage.until(lambda: ended(late))


def test_a_member_that_breaks_a_frame_in_the_middle_is_told_and_the_upgrade_fails(stage: Stage) -> None:
    old = stage.puppet(1)
    old.hears(Cold)
    stage.broker._settled.add(1)
    new = stage.upgrade(1, 2)
    old.hears(Prepare)

    old.link.send_raw(b"garbage, not a frame")
    error = old.hears(Error)
    stage.until(lambda: new.said("fails"))

    assert error.reason == Reason.PROTOCOL
    assert stage.saw(Happening.FAILED, 2) == Reason.PROTOCOL


def test_the_socket_is_its_owner_s_alone_from_the_first_moment(stage: Stage) -> None:
    assert Path(stage.path).stat().st_mode & 0o777 == 0o600


def test_descriptors_do_not_leak(stage: Stage) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    stage.first('state={"x": 1}')
    counts = []
    for generation in range(2, 7):
        child = stage.upgrade(generation - 1, generation)
        stage.until(partial(child.said, "owns"))
        stage.until(lambda g=generation: stage.saw(Happening.READY, g) is not None)  # type: ignore[misc]
        stage.broker.settle()
        stage.kill(generation - 1)
        counts.append(count())

    assert max(counts[1:]) <= counts[0]
