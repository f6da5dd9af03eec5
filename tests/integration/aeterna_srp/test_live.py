"""Established connections go over: nobody is cut off, and no byte is lost, read twice or out of order."""

import contextlib
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aeterna.sdk.handover import descriptors as room
from aeterna.srp.broker.broker import Happening
from aeterna.testing.live_load import LiveLoad

from tests.integration.aeterna_srp.running_broker import Child, Stage

PROGRAM = [sys.executable, "-m", "aeterna.testing.live_sample"]


@contextlib.contextmanager
def listening(family: str, folder: Path) -> Iterator[socket.socket]:
    kind = socket.AF_UNIX if family == "unix" else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "listener.sock") if family == "unix" else ("127.0.0.1", 0))
        listener.listen(4096)
        yield listener


def start(stage: Stage, generation: int, listener: socket.socket, *args: str) -> Child:
    return stage.spawn(generation, *args, program=PROGRAM, fds=[listener.fileno()])


def turning(stage: Stage, clients: LiveLoad, condition: Callable[[], object]) -> None:
    def look() -> object:
        clients.turn()
        return condition()

    stage.until(look, 15.0)


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("args", [[], ["slow=1"]], ids=["quick answers", "answers under way"])
def test_connections_survive_hand_overs_in_order(stage: Stage, tmp_path: Path, family: str, args: list[str]) -> None:
    with listening(family, tmp_path) as listener:
        first = start(stage, 1, listener, *args)
        stage.until(lambda: first.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(stage, clients, lambda: clients.answered > 500)

        for generation in (2, 3, 4):
            new = start(stage, generation, listener, *args)
            turning(stage, clients, lambda g=generation: stage.saw(Happening.JOINED, g) is not None)  # type: ignore[misc]
            stage.broker.prepare(generation - 1, generation)
            turning(stage, clients, lambda child=new: child.said("owns"))  # type: ignore[misc]
            before = clients.answered
            turning(stage, clients, lambda b=before: clients.answered > b + 500)  # type: ignore[misc]
            stage.broker.settle()
            stage.kill(generation - 1)

            assert new.said("owns") == new.facts[0]
            assert new.facts[0]["inherited"] == 100
        clients.close()

        assert clients.broken == []


@pytest.mark.parametrize(
    "step", ["heard PART", "heard CONNECTIONS", "heard END", "after PREPARED", "heard COMMIT", "after INSTALLED"]
)
def test_a_successor_that_dies_before_release_costs_nobody_anything(stage: Stage, tmp_path: Path, step: str) -> None:
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener)
        stage.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(stage, clients, lambda: clients.answered > 500)

        new = start(stage, 2, listener, f"crash={step}")
        turning(stage, clients, lambda: stage.saw(Happening.JOINED, 2) is not None)
        stage.broker.prepare(1, 2)
        turning(stage, clients, lambda: new.dead and (old.said("resumes") or not old.said("freezes")))
        before = clients.answered
        turning(stage, clients, lambda: clients.answered > before + 500)
        clients.close()

        assert clients.broken == []


def test_a_successor_that_dies_after_release_costs_only_what_it_touched(stage: Stage, tmp_path: Path) -> None:
    """It owned, and died before it read: the counters prove it for each connection."""
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener)
        stage.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(stage, clients, lambda: clients.answered > 500)

        new = start(stage, 2, listener, "crash=before READY")
        turning(stage, clients, lambda: stage.saw(Happening.JOINED, 2) is not None)
        stage.broker.prepare(1, 2)
        turning(stage, clients, lambda: new.dead and old.said("resumes"))
        before = clients.answered
        turning(stage, clients, lambda: clients.answered > before + 500)
        clients.close()

        assert clients.broken == []
        assert old.said("resumes") is not None
        assert old.facts[-1]["good"] == 100


def test_the_clients_notice_a_server_that_does_not_wait_for_its_answers(stage: Stage, tmp_path: Path) -> None:
    """The control: a freeze that forgets what is under way loses it, and these clients see that."""
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener, "slow=20", "hasty=1")
        stage.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(stage, clients, lambda: clients.answered > 500)

        new = start(stage, 2, listener, "slow=20", "hasty=1")
        turning(stage, clients, lambda: stage.saw(Happening.JOINED, 2) is not None)
        stage.broker.prepare(1, 2)
        turning(stage, clients, lambda: new.said("owns"))
        turning(stage, clients, lambda: clients.broken or clients.answered > 5000)
        clients.close()

        assert clients.broken


def test_give_back_brings_the_connections_home(stage: Stage, tmp_path: Path) -> None:
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener)
        stage.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 50)
        turning(stage, clients, lambda: clients.answered > 200)
        new = start(stage, 2, listener)
        turning(stage, clients, lambda: stage.saw(Happening.JOINED, 2) is not None)
        stage.broker.prepare(1, 2)
        turning(stage, clients, lambda: new.said("owns"))

        stage.broker.return_state(2, 1)
        turning(stage, clients, lambda: stage.saw(Happening.RETURNED) is not None and new.said("retires"))
        stage.kill(2)
        before = clients.answered
        turning(stage, clients, lambda: clients.answered > before + 200)
        clients.close()

        assert clients.broken == []


def test_both_have_room_for_all_descriptors_before_they_stand_still(stage: Stage, tmp_path: Path) -> None:
    """A table that grows in the middle of a freeze costs as much as all the rest of it."""
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener)
        stage.until(lambda: old.said("owns"))
        stage.upgrade(1, 2)
        stage.until(lambda: old.said("retires"))

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for child in stage.children.values():
            status = Path(f"/proc/{child.process.pid}/status").read_text()
            size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("FDSize"))

            assert size >= min(limit, room.DESCRIPTORS)


def test_a_thousand_connections_go_over_again_and_again(stage: Stage, tmp_path: Path) -> None:
    """`make bench-aeterna` says how long each of them stands still."""
    with listening("tcp", tmp_path) as listener:
        old = start(stage, 1, listener)
        stage.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 1000)
        turning(stage, clients, lambda: clients.answered > 1000)
        for generation in (2, 3, 4):
            new = start(stage, generation, listener)
            turning(stage, clients, lambda g=generation: stage.saw(Happening.JOINED, g) is not None)  # type: ignore[misc]
            stage.broker.prepare(generation - 1, generation)
            stage.until(lambda child=new: child.said("owns"))  # type: ignore[misc]
            owns = new.said("owns")
            assert owns is not None
            assert len(owns["stood"]) == 1000
            before = clients.answered
            turning(stage, clients, lambda b=before: clients.answered > b + 1000)  # type: ignore[misc]
            stage.broker.settle()
            stage.kill(generation - 1)
        clients.close()

        assert clients.broken == []
