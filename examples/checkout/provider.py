"""A payment provider for experiments. It makes a charge for each request, and counts the charges of each key.

    POST /charges          charge; the header Idempotency-Key names the request
    GET  /charges/{key}    the charge made under that key, or 404
    GET  /calls            how often each key was charged

With --hold it makes its first charge at once and delays the answer until it is released:

    GET  /held             waits for that charge and names its key
    POST /release          sends the answer

A lookup of a charge that was not made is answered only after all requests that arrived before it: a 404 promises that
no earlier request makes the charge any more. `verify` needs that promise to answer `DidNotHappen()`.

It prints the port it listens on.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Book:
    """The charges, and how often each key was charged."""

    def __init__(self, *, hold: bool, charge_s: float) -> None:
        self._lock = threading.Lock()
        # How long a charge takes to be made.
        self._charge_s = charge_s
        self._charges: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self._hold = hold
        self._held_key = ""
        self._held, self._released = threading.Event(), threading.Event()

    def charge(self, key: str, wanted: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self._charge_s)
        with self._lock:
            self.calls[key] += 1
            charge = {"id": f"ch_{sum(self.calls.values())}", **wanted}
            self._charges[key] = charge
            first, self._hold = self._hold, False
            if first:
                self._held_key = key
        return charge

    def await_release(self, key: str) -> None:
        """Return at once, unless the answer about this key is held."""
        if key == self._held_key:
            self._held.set()
            self._released.wait()

    def find(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            return self._charges.get(key)

    def held(self) -> str:
        self._held.wait()
        return self._held_key

    def release(self) -> None:
        self._released.set()


class Arrivals:
    """Connections in the order in which they arrived, each until its charge is made or it needs none."""

    def __init__(self) -> None:
        self._open: dict[object, int] = {}
        self._count = 0
        self._changed = threading.Condition()

    def arrived(self, client: object) -> None:
        with self._changed:
            self._count += 1
            self._open[client] = self._count

    def settled(self, client: object) -> int:
        """Its number, if it was not settled before."""
        with self._changed:
            self._changed.notify_all()
            return self._open.pop(client, 0)

    def await_earlier(self, number: int) -> None:
        """Wait until all connections that arrived before this number are settled."""
        with self._changed:
            self._changed.wait_for(lambda: min(self._open.values(), default=number) >= number)


class Provider(ThreadingHTTPServer):
    """Keeps account of what arrived. The connections are accepted in one thread, one after the other."""

    # A held answer must not keep the process from ending.
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, book: Book) -> None:
        self.arrivals = Arrivals()
        super().__init__(("127.0.0.1", port), handler(book, self.arrivals))

    def process_request(self, request: Any, client_address: Any) -> None:
        self.arrivals.arrived(client_address)
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            super().finish_request(request, client_address)
        finally:
            self.arrivals.settled(client_address)


def handler(book: Book, arrivals: Arrivals) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = arrivals.settled(self.client_address)
            if self.path == "/calls":
                self._answer(200, book.calls)
            elif self.path == "/held":
                self._answer(200, {"key": book.held()})
            else:
                key = self.path.removeprefix("/charges/")
                if book.find(key) is None:
                    arrivals.await_earlier(number)
                charge = book.find(key)
                self._answer(200 if charge else 404, charge or {"error": "no such charge"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path == "/release":
                book.release()
                self._answer(200, {})
            elif self.path == "/charges" and (key := self.headers.get("Idempotency-Key", "")):
                charge = book.charge(key, json.loads(body))
                arrivals.settled(self.client_address)
                book.await_release(key)
                self._answer(201, charge)
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
    parser.add_argument("--charge-s", type=float, default=0.0, help="how long a charge takes to be made")
    chosen = parser.parse_args()
    with Provider(chosen.port, Book(hold=chosen.hold, charge_s=chosen.charge_s)) as server:
        print(server.server_port, flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
