"""A grpc.aio server that is replaced without a failed call. Arguments: port=<n>, how=steered|shared|hasty."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

import aeterna.grpc
import grpc
import grpc.aio

arguments = dict(each.split("=", 1) for each in sys.argv[1:])


def say(did: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"did": did, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def echo(request: bytes, context: object) -> bytes:
    await asyncio.sleep(0.002)
    return request + b" %d" % os.getpid()


async def count(request: bytes, context: object) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        await asyncio.sleep(0.01)
        yield b"%d" % number


def make_server(options: aeterna.grpc.Options) -> grpc.aio.Server:
    server = grpc.aio.server(options=list(options))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    return server


async def main() -> None:
    retired = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, retired.set)
    how = arguments["how"]
    drain_s = 0.0 if how == "hasty" else None
    address = f"127.0.0.1:{arguments['port']}"
    async with aeterna.grpc.serving(
        make_server, address, age_s=0.4, drain_s=drain_s, steering=how != "shared"
    ) as serving:
        say("serves", port=serving.port, mode=serving.mode.value)
        await retired.wait()
    say("ends", left=serving.left)


asyncio.run(main())
