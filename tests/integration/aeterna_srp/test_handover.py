"""The broker and the SDK with real processes: what goes over, and what comes back."""

import subprocess
import sys
from pathlib import Path

from aeterna.srp.broker.broker import Happening
from aeterna.srp.wire.messages import Delta, Done, End, Offer, Prepare, Ready
from aeterna.srp.wire.state import encode_delta, pack

from tests.integration.aeterna_srp.running_broker import Stage, a_stage


def test_a_first_start_is_cold(stage: Stage) -> None:
    first = stage.first('state={"x": 1}')

    assert first.said("owns") is not None
    assert stage.saw(Happening.SKIPPED, 1) == ""


def test_the_state_goes_over_and_the_old_one_retires(stage: Stage) -> None:
    old = stage.first('state={"x": 1, "words": ["a", "é"]}')

    new = stage.upgrade(1, 2)
    owns = stage.until(lambda: new.said("owns"))
    stage.until(lambda: old.said("retires"))

    assert owns["state"] == {"x": 1, "words": ["a", "é"], "frozen": True}
    assert [what for what, who, _ in stage.happened if who == 2] == [
        Happening.JOINED, Happening.PREPARED, Happening.COMMITTED, Happening.INSTALLED, Happening.READY,
    ]  # fmt: skip


def test_64_mib_go_over_with_their_checksum(stage: Stage) -> None:
    """`make bench-aeterna` says how long that takes."""
    stage.first("size=67108864")

    new = stage.upgrade(1, 2)
    stage.until(lambda: new.said("owns"))

    assert stage.saw(Happening.READY, 2) is not None
    assert stage.broker.facts()["state_bytes"] > 64 * 1024 * 1024


def test_the_supervisor_can_change_its_mind_until_release(stage: Stage) -> None:
    stage.commits = False
    old = stage.first('state={"x": 1}')
    new = stage.upgrade(1, 2)
    stage.until(lambda: stage.saw(Happening.PREPARED, 2) is not None)

    stage.broker.abort("not today")
    stage.until(lambda: old.said("resumes"))
    failed = stage.until(lambda: new.said("fails"))

    assert failed["reason"] == "aborted"
    assert new.said("owns") is None


def test_a_third_generation_takes_from_the_second(stage: Stage) -> None:
    stage.first('state={"x": 1}')
    second = stage.upgrade(1, 2)
    stage.until(lambda: second.said("owns"))
    stage.broker.settle()
    stage.kill(1)

    third = stage.upgrade(2, 3)
    owns = stage.until(lambda: third.said("owns"))

    assert owns["state"]["x"] == 1


def test_give_back_brings_the_successor_s_state_to_the_old_one(stage: Stage) -> None:
    old = stage.first('state={"x": 1}')
    new = stage.upgrade(1, 2, "tell=1")
    stage.until(lambda: new.said("owns"))
    stage.until(lambda: old.said("retires"))

    stage.broker.return_state(2, 1)
    resumed = stage.until(lambda: old.said("resumes"))
    stage.until(lambda: new.said("retires"))

    assert stage.saw(Happening.RETURNED) is not None
    assert resumed["state"]["x"] == 1


def test_a_successor_that_dies_in_the_soak_leaves_what_it_told(stage: Stage) -> None:
    old = stage.first('state={"x": 1}')
    new = stage.upgrade(1, 2, "tell=1")
    stage.until(lambda: stage.saw(Happening.READY) is not None and new.said("owns"))
    pid = new.process.pid
    for _ in range(5):
        stage.turn()

    stage.kill(2)
    resumed = stage.until(lambda: old.said("resumes"))
    stage.broker.return_state(2, 1)

    assert resumed["state"]["told"] == pid
    assert stage.saw(Happening.RETURNED) is not None


def test_a_successor_that_will_not_give_back_is_killed_and_the_old_one_goes_on(tmp_path: Path) -> None:
    with a_stage(tmp_path, timeout_s=0.7) as stage:
        old = stage.first('state={"x": 1}')
        new = stage.upgrade(1, 2, "hang=heard PREPARE")
        stage.until(lambda: new.said("owns"))
        stage.until(lambda: old.said("retires"))

        stage.broker.return_state(2, 1)
        stage.until(lambda: old.said("resumes"))

        assert new.process.poll() == -9
        assert stage.saw(Happening.RETURNED) is not None


def test_what_a_successor_has_not_taken_yet_is_not_asked_back(stage: Stage) -> None:
    """Nobody knows whether it owns already, so it is dead before the old one goes on, and killed once only."""
    old = stage.first('state={"x": 1}')
    new = stage.puppet(2)
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
    stage.broker.prepare(1, 2)
    session = new.hears_release()

    stage.broker.return_state(2, 1)
    new.say(Ready(session))
    stage.until(lambda: old.said("resumes"))

    assert stage.children[2].process.poll() == -9
    assert stage.saw(Happening.FAILED, 2) is not None
    assert stage.saw(Happening.READY, 2) is None


def test_asking_back_twice_is_asking_once(stage: Stage) -> None:
    old = stage.first('state={"x": 1}')
    new = stage.upgrade(1, 2, "tell=1")
    stage.until(lambda: new.said("owns") and old.said("retires"))

    stage.broker.return_state(2, 1)
    stage.broker.return_state(2, 1)
    stage.until(lambda: old.said("resumes"))
    stage.until(lambda: new.said("retires"))

    assert [what for what, *_ in stage.happened].count(Happening.RETURNED) == 1
    assert old.times("resumes") == 1


def test_held_state_is_owned_only_after_take_over(stage: Stage) -> None:
    stage.commits = False
    old = stage.first('state={"x": 1}')
    new = stage.upgrade(1, 2, "hold=1")
    stage.until(lambda: stage.saw(Happening.PREPARED, 2) is not None)

    assert new.said("holds") is not None
    assert new.said("owns") is None
    assert old.said("retires") is None

    stage.broker.commit()
    stage.until(lambda: stage.saw(Happening.INSTALLED, 2) is not None)
    stage.broker.release()

    stage.until(lambda: new.said("owns"))


def test_an_older_version_is_migrated(stage: Stage) -> None:
    stage.first('state={"x": 1}', "schema=agent", "version=1")

    new = stage.upgrade(1, 2, "schema=agent", "version=2", "migrate=1")
    owns = stage.until(lambda: new.said("owns"))

    assert owns["state"]["migrated from"] == 1


def test_the_broker_survives_a_re_exec_and_so_do_its_members(stage: Stage) -> None:
    """The file descriptors stay, all else is written down; here the second broker is made from both."""
    stage.first('state={"x": 1}')
    kept = stage.broker.keep()
    assert kept["members"][0]["fd"] in stage.broker.fds()
    for member in list(stage.broker._peers.values()):
        stage.loop.remove_reader(member.link.fileno())  # type: ignore[attr-defined]
        member.link.socket.detach()  # type: ignore[attr-defined]
    stage.loop.remove_reader(kept["listener"])
    stage.broker._porter.listener.detach()

    stage.broker = stage.open(kept)
    new = stage.upgrade(1, 2)

    assert stage.until(lambda: new.said("owns"))["state"]["x"] == 1


def test_a_member_that_outlives_the_broker_joins_the_next_one_as_owner(stage: Stage) -> None:
    first = stage.first('state={"x": 1}')
    admission = stage.broker._admissions[1]
    stage.broker.close()

    stage.broker = stage.open()
    stage.broker.admit(1, admission.pid, admission.token)
    stage.broker._settled.add(1)
    stage.until(lambda: 1 in stage.broker._peers)
    new = stage.upgrade(1, 2)

    assert stage.until(lambda: new.said("owns"))["state"]["x"] == 1
    assert first.said("resumes") is None


def test_a_change_told_at_the_last_moment_is_no_breach(stage: Stage) -> None:
    """A successor goes on telling while it is asked to give back, and in every later upgrade as well."""
    stage.first('state={"x": 1}')
    new = stage.puppet(2)
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)
    stage.broker.prepare(1, 2)
    session = new.hears_release()
    new.say(Ready(session))
    stage.until(lambda: stage.saw(Happening.READY, 2) is not None)

    stage.broker.return_state(2, 1)
    new.say(Delta(encode_delta(pack({"x": 2}))))
    session = new.hears(Prepare).session
    new.say(Offer(session))
    new.say(End(session, 0, 0))
    new.hears(Done)

    assert stage.saw(Happening.RETURNED) is not None
    assert stage.children[2].process.poll() is None


def test_pid_1_does_not_load_openssl_for_the_broker() -> None:
    code = "import aeterna.srp.broker.broker, sys; print('_hashlib' in sys.modules, 'asyncio' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)

    assert done.stdout.split() == [b"False", b"False"], done.stderr
