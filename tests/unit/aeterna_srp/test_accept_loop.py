"""The last connections of a listener: those that the kernel has accepted are taken, and no more come in."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct

import pytest
from aeterna.sdk.connections.accept_loop import AcceptLoop


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def kernel_filters_packets() -> bool:
    """Some sandboxes do not. Tried with a filter that takes every packet."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF))
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(program)))
        except OSError:
            return False
    return True


async def test_connections_that_the_kernel_has_accepted_are_taken_and_later_ones_fail_when_the_listener_is_closed(
    listener: socket.socket,
) -> None:
    taken: list[socket.socket] = []
    address = listener.getsockname()
    clients = [socket.create_connection(address) for _ in range(20)]
    accept_loop = AcceptLoop(listener, taken.append)
    accept_loop.start()
    accept_loop.finish()
    late = socket.socket()
    late.setblocking(False)
    connecting = asyncio.ensure_future(asyncio.get_running_loop().sock_connect(late, address))
    early, _ = await asyncio.wait({connecting}, timeout=0.1)
    listener.close()
    await asyncio.wait({connecting})
    taken[0].sendall(b"hello")
    heard = clients[0].recv(100)
    for each in [late, *taken, *clients]:
        each.close()
    if not kernel_filters_packets():
        pytest.skip("no filter can be attached to a socket here")

    assert len(taken) == 20
    assert heard == b"hello", "an accepted connection is not filtered"
    assert not early
    assert isinstance(connecting.exception(), ConnectionRefusedError)


async def test_a_connection_after_stop_stays_in_the_queue_for_the_next_process(listener: socket.socket) -> None:
    taken: list[socket.socket] = []
    accept_loop = AcceptLoop(listener, taken.append)
    accept_loop.start()
    accept_loop.stop()
    with listener, socket.create_connection(listener.getsockname()):
        for _ in range(10):
            await asyncio.sleep(0)
        successor, _ = listener.accept()
        successor.close()

    assert taken == []
