"""Asking a process whether it is well. The asking blocks, so a child of ours does it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from aeterna.config.model import ErrorRate, Probe
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.probes import grpc_health
from aeterna.supervisor.processes.child import Children, Program, signal_group
from aeterna.table.addresses import Address, parse
from aeterna.table.soak import Counted

_OUTPUT_MAX = 4096
_BODY_MAX = 4 << 20

Answer = Callable[[bool, str], None]  # did it pass, and what was said


class Attempt:
    """One child that asks, or one command, with a deadline. It answers exactly once, unless it is cancelled."""

    def __init__(self, loop: Loop, children: Children, timeout_s: float, answer: Answer) -> None:
        self._loop = loop
        self._children = children
        self._answer: Answer | None = answer
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._said = b""
        self._pid = 0
        loop.add_reader(self._read, self._listen)
        self._deadline = loop.call_later(timeout_s, self._late)

    def run(self, argv: Sequence[str], env: Mapping[str, str]) -> Attempt:
        """A command; it passes with exit code 0."""
        # A program expects a pipe that waits. Ours is the other end.
        os.set_blocking(self._write, True)
        self._started(self._children.spawn(Program(argv=argv, env=env, stdout=self._write), self._ended))
        return self

    def ask(self, question: Callable[[], str]) -> Attempt:
        """A function that blocks; it passes by not raising, and what it returns is what was said."""

        def work() -> int:
            try:
                said, code = question(), 0
            except Exception as problem:
                said, code = f"{type(problem).__name__}: {problem}", 1
            os.write(self._write, said.encode(errors="replace")[:_OUTPUT_MAX])
            return code

        self._started(self._children.fork(work, self._ended))
        return self

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._answer = None
        self._deadline.cancel()
        if self._pid:
            self._children.forget(self._pid)
            signal_group(self._pid, signal.SIGKILL)
        self._close()

    def _started(self, pid: int) -> None:
        self._pid = pid
        os.close(self._write)

    def _listen(self) -> None:
        try:
            part = os.read(self._read, _OUTPUT_MAX)
        except BlockingIOError:
            return
        if not part:
            self._loop.remove_reader(self._read)
        self._said = (self._said + part)[-_OUTPUT_MAX:]

    def _ended(self, code: int) -> None:
        if self._read >= 0:
            self._listen()
        self._finish(code == 0, self._said.decode(errors="replace").strip() or f"exit code {code}")

    def _late(self) -> None:
        answer, self._answer = self._answer, None
        said = self._said.decode(errors="replace").strip()
        self.cancel()
        if answer is not None:
            answer(False, f"no answer in time {said}".strip())

    def _finish(self, passed: bool, said: str) -> None:
        self._pid = 0
        self._deadline.cancel()
        self._close()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(passed, said)

    def _close(self) -> None:
        if self._read >= 0:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._read = -1


def question(probe: Probe, target: str, visitor: socket.socket | None) -> Callable[[], str]:
    """What the child does. `visitor` is bound to the source port that is steered to the process in question."""

    def ask() -> str:
        if probe.kind == "http":
            status, _ = http_get(target, probe.timeout_s, visitor)
            if not 200 <= status < 400:
                raise ValueError(f"HTTP status {status}")
            return f"HTTP status {status}"
        address = parse(target)
        with connect(address, probe.timeout_s, visitor) as connection:
            if probe.kind == "grpc":
                problem = grpc_health.check(connection, "localhost", probe.service)
                if problem:
                    raise ValueError(problem)
        return "connected" if probe.kind == "tcp" else "serving"

    return ask


def counters(rate: ErrorRate, target: str) -> Callable[[], str]:
    """Two sums, as text."""

    def ask() -> str:
        status, body = http_get(target, rate.interval_s, None)
        if status != 200:
            raise ValueError(f"HTTP status {status}")
        text = body.decode(errors="replace")
        return f"{total(text, rate.requests)!r} {total(text, rate.errors)!r}"

    return ask


def read_counters(said: str) -> Counted | None:
    """What `counters` said."""
    try:
        requests, errors = (float(number) for number in said.split())
    except ValueError:
        return None
    return Counted(requests, errors)


def total(exposition: str, name: str) -> float:
    """The sum of a metric over its labels. `name{label="x"}` takes only the samples that have that label."""
    name, _, labels = name.partition("{")
    wanted = [label.strip() for label in labels.rstrip("}").split(",") if label.strip()]
    found = 0.0
    for line in exposition.splitlines():
        sample, _, value = line.rpartition(" ")
        base, _, has = sample.partition("{")
        if base == name and all(label in has for label in wanted):
            found += float(value)
    return found


def place(target: str) -> tuple[Address, str]:
    """Where a URL points, and the path there."""
    if target.startswith("unix:"):
        host, _, path = target.removeprefix("unix:").partition(":")
        return parse(host), path or "/"
    authority, _, path = target.removeprefix("http://").partition("/")
    if authority.rpartition(":")[2].isdigit() and ":" in authority:
        return parse(authority), "/" + path
    return parse(authority + ":80"), "/" + path


def http_get(target: str, timeout_s: float, visitor: socket.socket | None) -> tuple[int, bytes]:
    """The status and the body. The connection is not used again."""
    address, path = place(target)
    with connect(address, timeout_s, visitor) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: aeterna\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while not _complete(answer) and (part := connection.recv(65536)):
            answer += part
            if len(answer) > _BODY_MAX:
                raise ValueError("the answer is too long")
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        raise ValueError("that is not HTTP")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunk(body)
    return int(head.split(None, 2)[1]), body


def connect(address: Address, timeout_s: float, visitor: socket.socket | None) -> socket.socket:
    """To one that listens there; `[::]` and `0.0.0.0` are reached over loopback."""
    if address.kind == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        connection.connect("\0" + address.host[1:] if address.host.startswith("@") else address.host)
        return connection
    host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(address.host, address.host)
    if visitor is None:
        return socket.create_connection((host, address.port), timeout_s)
    visitor.settimeout(timeout_s)
    visitor.connect((host, address.port))
    return visitor


def _complete(answer: bytes) -> bool:
    """Is all of it here? Not every server closes when it is asked to."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
    return body.endswith(b"0\r\n\r\n") and b"transfer-encoding: chunked" in head.lower()


def _unchunk(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        whole, body = whole + rest[:length], rest[length + 2 :]
    return whole
