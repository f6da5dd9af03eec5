"""A grpc.aio server for upgrades: `Echo` answers with its generation, `Count` streams numbers.

SAMPLE_PORT is its port, SAMPLE_AGE_S the maximum age of its connections. With SAMPLE_PLAIN=1 it does not expect a
successor: on SIGTERM it stops at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import grpc
import grpc.aio

import aeterna.grpc
from aeterna.sdk import environment
from aeterna.sdk.notify import notify

GENERATION = os.environ.get("AETERNA_GENERATION", "0").encode()


async def echo(request: bytes, _context: object) -> bytes:
    """Wait a little, so that calls are under way at any moment."""
    await asyncio.sleep(0.001)
    return GENERATION + b" " + request


async def count(request: bytes, _context: object) -> AsyncIterator[bytes]:
    """Stream as many messages as the request says, one each hundredth of a second."""
    for number in range(int(request)):
        await asyncio.sleep(0.01)
        yield b"%d" % number


def make_server(options: aeterna.grpc.Options) -> grpc.aio.Server:
    """A server that is not started."""
    server = grpc.aio.server(options=list(options))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sample", handlers),))
    return server


async def main() -> None:
    """Serve until SIGTERM."""
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    address = f"127.0.0.1:{os.environ['SAMPLE_PORT']}"
    plain = os.environ.get("SAMPLE_PLAIN") == "1"
    age_s = float(os.environ.get("SAMPLE_AGE_S", "0.5"))
    async with aeterna.grpc.serving(
        make_server, address, age_s=age_s, drain_s=0.0 if plain else None, steering=not plain
    ):
        notify(environment.read().notify_socket, "READY=1")
        await leaving.wait()


if __name__ == "__main__":
    asyncio.run(main())
