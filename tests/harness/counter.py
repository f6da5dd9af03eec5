"""A payment provider in a process of its own that counts calls: only it can prove how often a side effect happened.

    POST /charges          make a charge; Idempotency-Key names it, Aetheris-Fence says under which lease
    GET  /charges/{key}    the charge made under that key, or 404
    GET  /calls            every key that was charged: when, and how many charges were made

The charge is made, and counted, when the request has arrived. The response can be delayed (`after_s`), so that
a caller can be killed before it arrives. A charge with `once` is made a single time, however many requests ask for
it. A request whose fence is older than one already seen under its key is refused.

It prints the port it listens on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aetheris_embedded.child_process import die_with_parent

from harness.environment import environment


@dataclass(slots=True)
class Charges:
    """What happened under one key."""

    times: list[float] = field(default_factory=list)
    # How often a charge was made; with `once` at most one time.
    applied: int = 0
    refused: int = 0
    fence: int = 0
    charge: dict[str, Any] = field(default_factory=dict)


class Book:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, Charges] = {}

    def charge(self, key: str, fence: int, number: object, *, once: bool) -> dict[str, Any] | None:
        """The charge; None where the caller comes too late."""
        with self._lock:
            charges = self._keys.setdefault(key, Charges())
            if fence < charges.fence:
                charges.refused += 1
                return None
            charges.fence = fence
            charges.times.append(time.time())
            if not (once and charges.applied):
                charges.applied += 1
                charges.charge = {"id": f"{key[:12]}-{charges.applied}", "number": number}
            return charges.charge

    def find(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            charges = self._keys.get(key)
            return charges.charge if charges is not None and charges.applied else None

    def calls(self) -> dict[str, Any]:
        with self._lock:
            return {key: asdict(charges) for key, charges in self._keys.items()}


def handler(book: Book) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            if self.path == "/calls":
                self._answer(200, book.calls())
                return
            charge = book.find(self.path.removeprefix("/charges/"))
            self._answer(200 if charge else 404, charge or {"error": "no such charge"})

        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            key, fence = self.headers["Idempotency-Key"], int(self.headers.get("Aetheris-Fence", "0"))
            charge = book.charge(key, fence, wanted.get("number"), once=bool(wanted.get("once")))
            if charge is None:
                self._answer(409, {"error": "a call with a later lease came first"})
                return
            time.sleep(float(wanted.get("after_s", 0.0)))
            self._answer(201, charge)

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            # The caller may have been killed. The charge stands all the same.
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: tests kill callers in the middle of a request."""


@contextmanager
def counting(host: str = "127.0.0.1", more: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the provider; yields its URL."""
    command = [sys.executable, "-m", __spec__.name, "--host", host]
    process = subprocess.Popen(
        command,
        env=environment(more),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent(),
    )
    assert process.stdout is not None
    try:
        yield f"http://{host}:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A provider that counts.")
    parser.add_argument("--host", default="127.0.0.1")
    with _Server((parser.parse_args().host, 0), handler(Book())) as server:
        server.daemon_threads = True
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
