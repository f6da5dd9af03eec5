"""The broker and the SDK with real processes: state that is handed over, and state that is returned."""

import subprocess
import sys
from pathlib import Path

from aeterna.srp.wire.messages import DeltaMessage, DoneMessage, EndMessage, OfferMessage, PrepareMessage, ReadyMessage
from aeterna.srp.wire.state import encode_delta, pack
from aeterna.table.events import HandoverEvent

from tests.integration.aeterna_srp.running_broker import RunningBroker, running_broker


def test_a_first_start_is_cold(running: RunningBroker) -> None:
    first = running.first('state={"x": 1}')

    assert first.said("owns") is not None
    assert running.saw(HandoverEvent.SKIPPED, 1) == ""


def test_the_state_goes_over_and_the_old_one_retires(running: RunningBroker) -> None:
    old = running.first('state={"x": 1, "words": ["a", "é"]}')

    new = running.upgrade(1, 2)
    owns = running.until(lambda: new.said("owns"))
    running.until(lambda: old.said("retires"))

    assert owns["state"] == {"x": 1, "words": ["a", "é"], "frozen": True}
    assert [what for what, who, _ in running.happened if who == 2] == [
        HandoverEvent.JOINED, HandoverEvent.PREPARED, HandoverEvent.COMMITTED, HandoverEvent.INSTALLED,
        HandoverEvent.READY,
    ]  # fmt: skip


def test_64_mib_go_over_with_their_checksum(running: RunningBroker) -> None:
    """`make bench-aeterna` says how long that takes."""
    running.first("size=67108864")

    new = running.upgrade(1, 2)
    running.until(lambda: new.said("owns"))

    assert running.saw(HandoverEvent.READY, 2) is not None
    assert running.broker.facts()["state_bytes"] > 64 * 1024 * 1024


def test_the_supervisor_can_change_its_mind_until_release(running: RunningBroker) -> None:
    running.commits = False
    old = running.first('state={"x": 1}')
    new = running.upgrade(1, 2)
    running.until(lambda: running.saw(HandoverEvent.PREPARED, 2) is not None)

    running.broker.abort()
    running.until(lambda: old.said("resumes"))
    failed = running.until(lambda: new.said("fails"))

    assert failed["reason"] == "aborted"
    assert new.said("owns") is None


def test_a_third_generation_takes_from_the_second(running: RunningBroker) -> None:
    running.first('state={"x": 1}')
    second = running.upgrade(1, 2)
    running.until(lambda: second.said("owns"))
    running.broker.settle()
    running.kill(1)

    third = running.upgrade(2, 3)
    owns = running.until(lambda: third.said("owns"))

    assert owns["state"]["x"] == 1


def test_returning_state_gives_the_successor_s_changes_to_the_old_process(running: RunningBroker) -> None:
    old = running.first('state={"x": 1}')
    new = running.upgrade(1, 2, "tell=1")
    running.until(lambda: new.said("owns"))
    running.until(lambda: old.said("retires"))

    running.broker.return_state(2, 1)
    resumed = running.until(lambda: old.said("resumes"))
    running.until(lambda: new.said("retires"))

    assert running.saw(HandoverEvent.RETURNED) is not None
    assert resumed["state"]["x"] == 1


def test_a_successor_that_dies_in_the_soak_leaves_its_deltas(running: RunningBroker) -> None:
    old = running.first('state={"x": 1}')
    new = running.upgrade(1, 2, "tell=1")
    running.until(lambda: running.saw(HandoverEvent.READY) is not None and new.said("owns"))
    pid = new.process.pid
    for _ in range(5):
        running.turn()

    running.kill(2)
    resumed = running.until(lambda: old.said("resumes"))
    running.broker.return_state(2, 1)

    assert resumed["state"]["told"] == pid
    assert running.saw(HandoverEvent.RETURNED) is not None


def test_a_successor_that_will_not_give_back_is_killed_and_the_old_one_goes_on(tmp_path: Path) -> None:
    with running_broker(tmp_path, timeout_s=0.7) as running:
        old = running.first('state={"x": 1}')
        new = running.upgrade(1, 2, "hang=heard PREPARE")
        running.until(lambda: new.said("owns"))
        running.until(lambda: old.said("retires"))

        running.broker.return_state(2, 1)
        running.until(lambda: old.said("resumes"))

        assert new.process.poll() == -9
        assert running.saw(HandoverEvent.RETURNED) is not None


def test_a_successor_that_does_not_own_the_state_is_not_asked_to_return_it(running: RunningBroker) -> None:
    """It may own already or not, so it must be dead before the old process goes on; and it is killed only once."""
    old = running.first('state={"x": 1}')
    new = running.member(2)
    running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
    running.broker.prepare(1, 2)
    session = new.hears_release()

    running.broker.return_state(2, 1)
    new.say(ReadyMessage(session))
    running.until(lambda: old.said("resumes"))

    assert running.children[2].process.poll() == -9
    assert running.saw(HandoverEvent.FAILED, 2) is not None
    assert running.saw(HandoverEvent.READY, 2) is None


def test_a_second_order_to_return_state_changes_nothing(running: RunningBroker) -> None:
    old = running.first('state={"x": 1}')
    new = running.upgrade(1, 2, "tell=1")
    running.until(lambda: new.said("owns") and old.said("retires"))

    running.broker.return_state(2, 1)
    running.broker.return_state(2, 1)
    running.until(lambda: old.said("resumes"))
    running.until(lambda: new.said("retires"))

    assert [what for what, *_ in running.happened].count(HandoverEvent.RETURNED) == 1
    assert old.times("resumes") == 1


def test_held_state_is_owned_only_after_take_over(running: RunningBroker) -> None:
    running.commits = False
    old = running.first('state={"x": 1}')
    new = running.upgrade(1, 2, "hold=1")
    running.until(lambda: running.saw(HandoverEvent.PREPARED, 2) is not None)

    assert new.said("holds") is not None
    assert new.said("owns") is None
    assert old.said("retires") is None

    running.broker.commit()
    running.until(lambda: running.saw(HandoverEvent.INSTALLED, 2) is not None)
    running.broker.release()

    running.until(lambda: new.said("owns"))


def test_an_older_version_is_migrated(running: RunningBroker) -> None:
    running.first('state={"x": 1}', "schema=agent", "version=1")

    new = running.upgrade(1, 2, "schema=agent", "version=2", "migrate=1")
    owns = running.until(lambda: new.said("owns"))

    assert owns["state"]["migrated from"] == 1


def test_the_broker_survives_a_re_exec_and_so_do_its_members(running: RunningBroker) -> None:
    """A second broker is made from the descriptors and from what `keep` wrote."""
    running.first('state={"x": 1}')
    kept = running.broker.keep()
    assert kept["members"][0]["fd"] in running.broker.fds()
    for member in list(running.broker._peers.values()):
        running.loop.remove_reader(member.link.fileno())  # type: ignore[attr-defined]
        member.link.socket.detach()  # type: ignore[attr-defined]
    running.loop.remove_reader(kept["listener"])
    running.broker._acceptor.listener.detach()

    running.broker = running.open(kept)
    new = running.upgrade(1, 2)

    assert running.until(lambda: new.said("owns"))["state"]["x"] == 1


def test_a_member_that_outlives_the_broker_joins_the_next_one_as_owner(running: RunningBroker) -> None:
    first = running.first('state={"x": 1}')
    admission = running.broker._admissions[1]
    running.broker.close()

    running.broker = running.open()
    running.broker.admit(1, admission.pid, admission.token)
    running.broker._settled.add(1)
    running.until(lambda: 1 in running.broker._peers)
    new = running.upgrade(1, 2)

    assert running.until(lambda: new.said("owns"))["state"]["x"] == 1
    assert first.said("resumes") is None


def test_a_delta_sent_at_the_last_moment_is_no_breach(running: RunningBroker) -> None:
    """A successor may send deltas until it reads PREPARE, in a return and in later upgrades."""
    running.first('state={"x": 1}')
    new = running.member(2)
    running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
    running.broker.prepare(1, 2)
    session = new.hears_release()
    new.say(ReadyMessage(session))
    running.until(lambda: running.saw(HandoverEvent.READY, 2) is not None)

    running.broker.return_state(2, 1)
    new.say(DeltaMessage(encode_delta(pack({"x": 2}))))
    session = new.hears(PrepareMessage).session
    new.say(OfferMessage(session))
    new.say(EndMessage(session, 0, 0))
    new.hears(DoneMessage)

    assert running.saw(HandoverEvent.RETURNED) is not None
    assert running.children[2].process.poll() is None


def test_pid_1_does_not_load_openssl_for_the_broker() -> None:
    code = "import aeterna.srp.broker.broker, sys; print('_hashlib' in sys.modules, 'asyncio' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)

    assert done.stdout.split() == [b"False", b"False"], done.stderr
