"""A payment provider for experiments. It makes a charge for each request, and counts the charges of each key.

    POST /charges          charge; the header Idempotency-Key names the request
    GET  /charges/{key}    the charge made under that key, or 404
    GET  /calls            how often each key was charged

With --hold it makes its first charge at once and delays the answer until it is released:

    GET  /held             waits for that charge and names its key
    POST /release          sends the answer

It prints the port it listens on.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Book:
    """The charges, and how often each key was charged."""

    def __init__(self, *, hold: bool) -> None:
        self._lock = threading.Lock()
        self._charges: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self._hold = hold
        self._held_key = ""
        self._held, self._released = threading.Event(), threading.Event()

    def charge(self, key: str, wanted: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls[key] += 1
            charge = {"id": f"ch_{sum(self.calls.values())}", **wanted}
            self._charges[key] = charge
            first, self._hold = self._hold, False
        if first:
            self._held_key = key
            self._held.set()
            self._released.wait()
        return charge

    def find(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            return self._charges.get(key)

    def held(self) -> str:
        self._held.wait()
        return self._held_key

    def release(self) -> None:
        self._released.set()


def handler(book: Book) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/calls":
                self._answer(200, book.calls)
            elif self.path == "/held":
                self._answer(200, {"key": book.held()})
            else:
                charge = book.find(self.path.removeprefix("/charges/"))
                self._answer(200 if charge else 404, charge or {"error": "no such charge"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path == "/release":
                book.release()
                self._answer(200, {})
            elif self.path == "/charges" and (key := self.headers.get("Idempotency-Key", "")):
                self._answer(201, book.charge(key, json.loads(body)))
            else:
                self._answer(400, {"error": "POST /charges with an Idempotency-Key"})

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # the caller is gone; the charge stays

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="A payment provider for experiments.")
    parser.add_argument("--port", type=int, default=9300)
    parser.add_argument("--hold", action="store_true", help="delay the answer to the first charge")
    chosen = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", chosen.port), handler(Book(hold=chosen.hold))) as server:
        # A held answer must not keep the process from ending.
        server.daemon_threads = True
        print(server.server_port, flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
