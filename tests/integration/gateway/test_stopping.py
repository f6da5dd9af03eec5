"""A stop of the HTTP server: each client that could connect gets an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aetheris_gateway.http.server import serving
from aetheris_gateway.settings import Settings

CLIENTS = 200
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop, as in a process of the gateway"),
]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def stopped_while(loop: Callable[[], asyncio.AbstractEventLoop], listen: str, act: Callable[[Any], Awaitable[None]]):
    """Serve `hello`, do `act` with the address, and stop the server, which no turn of the loop precedes."""

    async def run() -> None:
        async with serving(Settings(http_listen=listen), hello, asyncio.Event()) as address:
            await act(address.path or (address.host, address.port))

    main: Coroutine[Any, Any, None] = run()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)


def connected(address: Any) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(10)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def answer(client: socket.socket) -> bytes:
    """All that the server sends before it closes the connection."""
    received = b""
    with client:
        while data := client.recv(65536):
            received += data
    return received


@pytest.fixture(params=["tcp", "socket file"])
def listen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path_factory.mktemp('s')}/http"


@pytest.mark.parametrize("loop", LOOPS)
def test_clients_that_the_kernel_accepted_before_the_stop_are_answered(loop: Any, listen: str) -> None:
    clients: list[socket.socket] = []

    async def connect(address: Any) -> None:
        for _ in range(CLIENTS):
            clients.append(connected(address))
            clients[-1].sendall(REQUEST)

    stopped_while(loop, listen, connect)
    answers = [answer(client) for client in clients]

    assert [each.split(b" ", 2)[1] for each in answers] == [b"200"] * CLIENTS
    assert all(b"\r\nconnection: close\r\n" in each and each.endswith(b"hello") for each in answers)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_connected_before_the_stop_and_sends_its_request_during_it_is_answered(
    loop: Any, listen: str
) -> None:
    clients: list[socket.socket] = []

    async def connect(address: Any) -> None:
        clients.append(connected(address))
        # The stop begins first: it has work in this turn of the loop.
        asyncio.get_running_loop().call_later(0.3, clients[0].sendall, REQUEST)

    stopped_while(loop, listen, connect)

    assert answer(clients[0]).endswith(b"hello")


@pytest.mark.parametrize("loop", LOOPS)
def test_no_client_that_connects_at_any_moment_of_a_stop_is_reset(loop: Any, listen: str) -> None:
    """It is answered, or it cannot connect."""
    outcomes: Counter[str] = Counter()
    threads: list[threading.Thread] = []

    def keep_connecting(address: Any) -> None:
        while "refused" not in outcomes:
            try:
                client = connected(address)
            except (ConnectionRefusedError, FileNotFoundError):
                outcomes["refused"] += 1
                return
            try:
                client.sendall(LAST_REQUEST)
                outcomes["answered" if answer(client).endswith(b"hello") else "closed without an answer"] += 1
            except OSError as problem:
                outcomes[type(problem).__name__] += 1

    async def connect(address: Any) -> None:
        threads.extend(threading.Thread(target=keep_connecting, args=[address]) for _ in range(4))
        for thread in threads:
            thread.start()
        while outcomes["answered"] < 50:  # noqa: ASYNC110 - what is waited for is in other threads
            await asyncio.sleep(0.001)

    stopped_while(loop, listen, connect)
    for thread in threads:
        thread.join()

    assert set(outcomes) == {"answered", "refused"}
    assert not Path(listen.removeprefix("unix:")).exists()
