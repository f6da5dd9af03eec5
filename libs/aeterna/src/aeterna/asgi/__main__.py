"""`python -m aeterna.asgi module:application`"""

import argparse
import asyncio
import importlib
import socket
import sys
from pathlib import Path

from aeterna.asgi.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeterna.asgi", description="Serve an ASGI application.")
    parser.add_argument("application", help="module:name")
    parser.add_argument("--listener", help="the name of the inherited listener; the first by default")
    parser.add_argument("--bind", metavar="HOST:PORT", help="listen there instead, without a supervisor")
    parser.add_argument("--drain", type=float, default=20.0, metavar="SECONDS", help="how long answers may go on")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    module, _, name = arguments.application.partition(":")
    app = getattr(importlib.import_module(module), name or "app")
    listener: socket.socket | str | None = arguments.listener
    if arguments.bind:
        host, _, port = arguments.bind.rpartition(":")
        listener = socket.create_server((host or "127.0.0.1", int(port)), backlog=4096)
        listener.setblocking(False)
    asyncio.run(serve(app, listener=listener, drain_s=arguments.drain))


if __name__ == "__main__":
    main()
