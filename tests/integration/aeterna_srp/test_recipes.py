"""HTTP servers on the inherited listener are replaced under load, and no request fails. The control server just
stops."""

import http.client
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.aeterna_srp.running_broker import Child, RunningBroker

RECIPES = Path(__file__).parents[3] / "examples" / "aeterna" / "recipes"
UPGRADES = int(os.environ.get("AETERNA_UPGRADES", "2"))
# gunicorn's own worker closes after each answer, so there is nothing to keep.
PROGRAMS: dict[str, tuple[list[str], bool]] = {
    "uvicorn": ([sys.executable, str(RECIPES / "with_uvicorn.py")], True),
    "hypercorn": ([sys.executable, str(RECIPES / "with_hypercorn.py")], True),
    "aiohttp": ([sys.executable, str(RECIPES / "with_aiohttp.py")], True),
    "gunicorn": ([sys.executable, "-m", "gunicorn", "--chdir", str(RECIPES), "with_gunicorn:app"], False),
}
NAIVE = [sys.executable, "-m", "uvicorn", "--fd", "3", "--lifespan", "off", "--app-dir", str(RECIPES), "plain:app"]


class Load:
    """Clients that never retry: some open a connection for each request, some keep theirs."""

    def __init__(self, address: tuple[str, int], *, keep: bool) -> None:
        self.failed: list[str] = []
        self.answers: dict[str, int] = {}
        self._address = address
        self._stop = threading.Event()
        kinds = [self._fresh, self._fresh, *([self._kept] * 4 if keep else [])]
        self._threads = [threading.Thread(target=kind) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _fresh(self) -> None:
        while not self._stop.wait(0.002):
            connection = self._connection()
            self._get(connection, "fresh")
            connection.close()

    def _kept(self) -> None:
        connection = self._connection()
        while not self._stop.wait(0.005):
            self._get(connection, "kept")
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=10)

    def _get(self, connection: http.client.HTTPConnection, kind: str) -> None:
        try:
            connection.request("GET", "/")
            answer = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as problem:
            self.failed.append(f"{kind}: {problem!r}")
            connection.close()
        else:
            self.answers[answer] = self.answers.get(answer, 0) + 1


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)
        yield listener


def answers(running: RunningBroker, address: tuple[str, int], child: Child, load: Load | None) -> None:
    """Wait until this process has answered a request."""
    pid = str(child.process.pid)

    def look() -> bool:
        if load is not None:
            return load.answers.get(pid, 0) > 20
        with socket.create_connection(address) as probe:
            probe.setblocking(False)
            probe.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                running.turn()
                try:
                    return bool(probe.recv(100))
                except BlockingIOError:
                    continue
        return False

    running.until(look, 15)


def replaced(running: RunningBroker, program: list[str], *, keep: bool, upgrades: int) -> Load:
    running.skips = set(range(1, upgrades + 2))
    with listening() as listener:
        address = listener.getsockname()
        old = running.spawn(1, program=program, fds=[listener.fileno()])
        answers(running, address, old, None)
        load = Load(address, keep=keep)
        try:
            for generation in range(2, upgrades + 2):
                new = running.spawn(generation, program=program, fds=[listener.fileno()])
                answers(running, address, new, load)
                old.process.send_signal(signal.SIGTERM)
                running.until(lambda child=old: child.dead, 15)  # type: ignore[misc]
                old = new
        finally:
            load.end()
        return load


@pytest.mark.parametrize("server", PROGRAMS)
def test_no_request_fails_while_the_server_is_replaced(running: RunningBroker, server: str) -> None:
    if importlib.util.find_spec(server) is None:
        pytest.skip(f"{server} is not installed")
    program, keep = PROGRAMS[server]

    load = replaced(running, program, keep=keep, upgrades=UPGRADES)

    assert load.failed == []
    assert len(load.answers) == UPGRADES + 1


def test_a_server_that_just_stops_fails_requests(running: RunningBroker) -> None:
    """The control: the same clients, and a server that closes kept-alive connections."""
    pytest.importorskip("uvicorn")

    load = replaced(running, NAIVE, keep=True, upgrades=3)

    assert load.failed
