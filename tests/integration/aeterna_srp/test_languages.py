"""The examples in Go, Node and Python hand over to each other: the page is enough to write a peer."""

import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aeterna.table.events import HandoverEvent

from harness import builds
from tests.integration.aeterna_srp.running_broker import Child, RunningBroker

EXAMPLES = Path(__file__).parents[3] / "examples" / "aeterna"
LANGUAGES = ["go", "node", "python"]


# The counter in Go is built by the fixture, which has a limit of its own.
pytestmark = pytest.mark.timeout(20, func_only=True)


@pytest.fixture(scope="session")
def counter_in_go() -> str:
    """The program; empty where there is no Go."""
    try:
        return str(builds.go_program(EXAMPLES / "go"))
    except builds.CannotBuild:
        return ""


@pytest.fixture
def programs(counter_in_go: str) -> Callable[[str], list[str]]:
    def program(language: str) -> list[str]:
        if language == "python":
            return [sys.executable, str(EXAMPLES / "counter.py")]
        found = counter_in_go if language == "go" else shutil.which(language)
        if not found:
            pytest.skip(f"{language} is not installed")
        return [found] if language == "go" else [found, str(EXAMPLES / "node" / "counter.mjs")]

    return program


class Asked:
    """Turns the broker's loop while it waits for an answer."""

    def __init__(self, running: RunningBroker, listener: socket.socket) -> None:
        self.running = running
        self.address = listener.getsockname()

    def ask(self) -> "CountRequest":
        return CountRequest(self.running, self.address)

    def answer(self) -> tuple[int, str]:
        return self.ask().answer()


class CountRequest:
    """A client that has connected and waits for its number."""

    def __init__(self, running: RunningBroker, address: tuple[str, int]) -> None:
        self.running = running
        self.got = b""
        self.sock = socket.create_connection(address)
        self.sock.setblocking(False)

    def answer(self) -> tuple[int, str]:
        def look() -> bytes | None:
            try:
                self.got += self.sock.recv(100)
            except BlockingIOError:
                return None
            return self.got if b"\n" in self.got else None

        number, language = self.running.until(look).split()
        self.sock.close()
        return int(number), language.decode()


def serving(running: RunningBroker, generation: int, program: list[str], listener: socket.socket) -> Child:
    return running.spawn(generation, program=program, fds=[listener.fileno()])


@pytest.fixture
def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0), backlog=128)
    made.setblocking(False)
    return made


@pytest.mark.parametrize("new", LANGUAGES)
@pytest.mark.parametrize("old", LANGUAGES)
def test_the_count_goes_on_in_the_next_language(
    running: RunningBroker, listener: socket.socket, programs: Callable[[str], list[str]], old: str, new: str
) -> None:
    with listener:
        asked = Asked(running, listener)
        serving(running, 1, programs(old), listener)
        running.until(lambda: running.saw(HandoverEvent.SKIPPED, 1) is not None)
        assert [asked.answer() for _ in range(3)] == [(1, old), (2, old), (3, old)]

        serving(running, 2, programs(new), listener)
        running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        running.until(lambda: running.saw(HandoverEvent.READY, 2) is not None)
        running.broker.settle()
        running.kill(1)

        assert [asked.answer() for _ in range(3)] == [(4, new), (5, new), (6, new)]


@pytest.mark.parametrize("old", LANGUAGES)
def test_an_aborted_hand_over_loses_no_count_and_no_caller(
    running: RunningBroker, listener: socket.socket, programs: Callable[[str], list[str]], old: str
) -> None:
    running.commits = False
    with listener:
        asked = Asked(running, listener)
        serving(running, 1, programs(old), listener)
        running.until(lambda: running.saw(HandoverEvent.SKIPPED, 1) is not None)
        assert asked.answer() == (1, old)
        new = serving(running, 2, programs("python"), listener)
        running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        running.until(lambda: running.saw(HandoverEvent.PREPARED, 2) is not None)
        waiting = asked.ask()

        running.broker.abort()
        running.until(lambda: new.dead)

        assert waiting.answer() == (2, old)
        assert asked.answer() == (3, old)


@pytest.mark.parametrize("old", LANGUAGES)
def test_a_client_that_connects_during_a_freeze_is_answered_by_the_successor(
    running: RunningBroker, listener: socket.socket, programs: Callable[[str], list[str]], old: str
) -> None:
    running.commits = False
    with listener:
        asked = Asked(running, listener)
        serving(running, 1, programs(old), listener)
        running.until(lambda: running.saw(HandoverEvent.SKIPPED, 1) is not None)
        assert asked.answer() == (1, old)
        serving(running, 2, programs("python"), listener)
        running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        running.broker.prepare(1, 2)
        running.until(lambda: running.saw(HandoverEvent.PREPARED, 2) is not None)
        waiting = asked.ask()

        running.broker.commit()
        running.until(lambda: running.saw(HandoverEvent.INSTALLED, 2) is not None)
        running.broker.release()

        assert waiting.answer() == (2, "python")
