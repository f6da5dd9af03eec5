"""Established connections are handed over: none is closed, and no byte is lost, read twice or out of order."""

import contextlib
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aeterna.sdk.handover import descriptors
from aeterna.table.events import HandoverEvent
from aeterna.testing.live_load import LiveLoad

from tests.integration.aeterna_srp.running_broker import Child, RunningBroker

PROGRAM = [sys.executable, "-m", "aeterna.testing.live_sample"]


@contextlib.contextmanager
def listening(family: str, folder: Path) -> Iterator[socket.socket]:
    kind = socket.AF_UNIX if family == "unix" else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "listener.sock") if family == "unix" else ("127.0.0.1", 0))
        listener.listen(4096)
        yield listener


def start(running: RunningBroker, generation: int, listener: socket.socket, *args: str) -> Child:
    return running.spawn(generation, *args, program=PROGRAM, fds=[listener.fileno()])


def turning(running: RunningBroker, clients: LiveLoad, condition: Callable[[], object]) -> None:
    def look() -> object:
        clients.turn()
        return condition()

    running.until(look, 15.0)


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("args", [[], ["slow=1"]], ids=["quick answers", "answers under way"])
def test_connections_survive_hand_overs_in_order(
    running: RunningBroker, tmp_path: Path, family: str, args: list[str]
) -> None:
    with listening(family, tmp_path) as listener:
        first = start(running, 1, listener, *args)
        running.until(lambda: first.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(running, clients, lambda: clients.answered > 500)

        for generation in (2, 3, 4):
            new = start(running, generation, listener, *args)
            turning(running, clients, lambda g=generation: running.saw(HandoverEvent.JOINED, g) is not None)  # type: ignore[misc]
            running.broker.prepare(generation - 1, generation)
            turning(running, clients, lambda child=new: child.said("owns"))  # type: ignore[misc]
            before = clients.answered
            turning(running, clients, lambda b=before: clients.answered > b + 500)  # type: ignore[misc]
            running.broker.settle()
            running.kill(generation - 1)

            assert new.said("owns") == new.facts[0]
            assert new.facts[0]["inherited"] == 100
        clients.close()

        assert clients.broken == []


@pytest.mark.parametrize(
    "step", ["heard PART", "heard CONNECTIONS", "heard END", "after PREPARED", "heard COMMIT", "after INSTALLED"]
)
def test_a_successor_that_dies_before_release_costs_no_connection(
    running: RunningBroker, tmp_path: Path, step: str
) -> None:
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener)
        running.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(running, clients, lambda: clients.answered > 500)

        new = start(running, 2, listener, f"crash={step}")
        turning(running, clients, lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        turning(running, clients, lambda: new.dead and (old.said("resumes") or not old.said("freezes")))
        before = clients.answered
        turning(running, clients, lambda: clients.answered > before + 500)
        clients.close()

        assert clients.broken == []


def test_a_successor_that_dies_after_release_costs_only_what_it_touched(running: RunningBroker, tmp_path: Path) -> None:
    """The successor owned and died before it read: the counters prove it for each connection."""
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener)
        running.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(running, clients, lambda: clients.answered > 500)

        new = start(running, 2, listener, "crash=before READY")
        turning(running, clients, lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        turning(running, clients, lambda: new.dead and old.said("resumes"))
        before = clients.answered
        turning(running, clients, lambda: clients.answered > before + 500)
        clients.close()

        assert clients.broken == []
        assert old.said("resumes") is not None
        assert old.facts[-1]["good"] == 100


def test_the_clients_notice_a_server_that_does_not_wait_for_its_answers(running: RunningBroker, tmp_path: Path) -> None:
    """The control: a freeze that does not wait for answers loses them, and these clients notice."""
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener, "slow=20", "hasty=1")
        running.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 100)
        turning(running, clients, lambda: clients.answered > 500)

        new = start(running, 2, listener, "slow=20", "hasty=1")
        turning(running, clients, lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        turning(running, clients, lambda: new.said("owns"))
        turning(running, clients, lambda: clients.broken or clients.answered > 5000)
        clients.close()

        assert clients.broken


def test_returning_state_returns_the_connections(running: RunningBroker, tmp_path: Path) -> None:
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener)
        running.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 50)
        turning(running, clients, lambda: clients.answered > 200)
        new = start(running, 2, listener)
        turning(running, clients, lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        turning(running, clients, lambda: new.said("owns"))

        running.broker.return_state(2, 1)
        turning(running, clients, lambda: running.saw(HandoverEvent.RETURNED) is not None and new.said("retires"))
        running.kill(2)
        before = clients.answered
        turning(running, clients, lambda: clients.answered > before + 200)
        clients.close()

        assert clients.broken == []


def test_both_processes_reserve_descriptors_before_they_stand_still(running: RunningBroker, tmp_path: Path) -> None:
    """A table of descriptors that grows in the middle of a freeze takes as long as all the rest of the freeze."""
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener)
        running.until(lambda: old.said("owns"))
        running.upgrade(1, 2)
        running.until(lambda: old.said("retires"))

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for child in running.children.values():
            status = Path(f"/proc/{child.process.pid}/status").read_text()
            size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("FDSize"))

            assert size >= min(limit, descriptors.DESCRIPTORS)


def test_a_thousand_connections_go_over_again_and_again(running: RunningBroker, tmp_path: Path) -> None:
    """`make bench-aeterna` says how long each of them stands still."""
    with listening("tcp", tmp_path) as listener:
        old = start(running, 1, listener)
        running.until(lambda: old.said("owns"))
        clients = LiveLoad(listener.getsockname(), 1000)
        turning(running, clients, lambda: clients.answered > 1000)
        for generation in (2, 3, 4):
            new = start(running, generation, listener)
            turning(running, clients, lambda g=generation: running.saw(HandoverEvent.JOINED, g) is not None)  # type: ignore[misc]
            running.broker.prepare(generation - 1, generation)
            running.until(lambda child=new: child.said("owns"))  # type: ignore[misc]
            owns = new.said("owns")
            assert owns is not None
            assert len(owns["stood"]) == 1000
            before = clients.answered
            turning(running, clients, lambda b=before: clients.answered > b + 1000)  # type: ignore[misc]
            running.broker.settle()
            running.kill(generation - 1)
        clients.close()

        assert clients.broken == []
