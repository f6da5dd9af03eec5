"""A server in a process of its own that sends each frame back, for tests to kill: `echo_server.py ADDRESS`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
from aeterna.grpc import started


async def main(address: str) -> None:
    async def echo(_: Any, context: Any) -> None:
        while (frame := await context.read()) is not vars(grpc.aio)["EOF"]:
            await context.write(frame)

    server = grpc.aio.server()
    handlers = {"Echo": grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peer", handlers),))
    server.add_insecure_port(address)
    async with started(server):
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
