"""Upgrades in place by Aeterna: the successor serves before this process stops.

    HTTP     the listener is the supervisor's; both processes accept from one queue
    gRPC     each process has its own listener, and the newest steers new connections to itself; connections end at
             a certain age, so clients move to the successor, and this process stops when the last has gone

Only `AETHERIS_REPLACEABLE=true` turns this on. Without it a port belongs to one process.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

import aeterna.grpc
import structlog
from aeterna.sdk import environment
from aeterna.sdk.connections import steer
from aeterna.sdk.notify import notify
from aetheris_kernel.errors import Invalid

from aetheris_chassis.address import Address
from aetheris_chassis.settings import ServiceSettings

log = structlog.get_logger()


def lent_listener(asked: Address) -> socket.socket | None:
    """The supervisor's listener at exactly this address, if there is one. Closing it leaves the supervisor's open."""
    for fd in environment.read().fds:
        listener = socket.socket(fileno=os.dup(fd))
        if _listens_at(listener, asked):
            listener.setblocking(False)
            if not asked.path:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
        listener.close()
    return None


def tell_ready() -> None:
    """Tell the supervisor that this process serves, so that it may stop the predecessor."""
    notify(environment.read().notify_socket, "READY=1")


def grpc_options(settings: ServiceSettings, asked: Address) -> Mapping[str, int]:
    """Options with which two processes share a port; none unless the service is replaceable."""
    if not settings.replaceable:
        return {}
    if asked.path:
        raise Invalid("a service that is replaced in place listens at host:port", field="AETHERIS_LISTEN")
    return dict(aeterna.grpc.options(settings.connection_age_s))


async def take_port(settings: ServiceSettings, port: int) -> None:
    """From now on the kernel gives this process all new connections on the port, although others listen there, too."""
    if settings.replaceable:
        mode = await asyncio.to_thread(aeterna.grpc.take_port, port)
        log.info("port taken", port=port, mode=mode.value)


async def until_clients_moved(settings: ServiceSettings, port: int) -> None:
    """If a successor has the port, wait until the age of their connections has moved all clients there. An endless
    stream keeps its connection: it ends in the drain that follows."""
    if not settings.replaceable or steer.group_size(port) < 2:
        return
    loop = asyncio.get_running_loop()
    # gRPC varies the age by a tenth, so that not all clients reconnect at once.
    deadline = loop.time() + 1.25 * settings.connection_age_s
    await asyncio.sleep(aeterna.grpc.QUEUE_S)
    while steer.established(port) and loop.time() < deadline:  # noqa: ASYNC110 - the kernel has no event for it
        await asyncio.sleep(aeterna.grpc.LOOK_S)
    log.info("outlived", port=port, connections=steer.established(port))


def _listens_at(listener: socket.socket, asked: Address) -> bool:
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = listener.getsockname()
    if asked.path:
        return listener.family == socket.AF_UNIX and name == asked.path
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or name[1] != asked.port:
        return False
    found = socket.getaddrinfo(asked.host, asked.port, type=socket.SOCK_STREAM)
    return any(address[0] == name[0] for *_, address in found)
