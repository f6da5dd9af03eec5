"""The requests of health checks: HTTP, TCP and gRPC. They block, so they run in a `TimedProcess`."""

from __future__ import annotations

import socket
from collections.abc import Callable

from aeterna.config.model import ErrorRate, Probe
from aeterna.supervisor.probes import grpc_health
from aeterna.table.addresses import ListenAddress, parse
from aeterna.table.soak import Counted

_BODY_MAX = 4 << 20


def probe_request(probe: Probe, target: str, source: socket.socket | None) -> Callable[[], str]:
    """The function that makes the request. `source`, if given, is bound to the port that is steered to the process."""

    def ask() -> str:
        if probe.kind == "http":
            status, _ = http_get(target, probe.timeout_s, source)
            if not 200 <= status < 400:
                raise ValueError(f"HTTP status {status}")
            return f"HTTP status {status}"
        address = parse(target)
        with connect(address, probe.timeout_s, source) as connection:
            if probe.kind == "grpc":
                problem = grpc_health.check(connection, "localhost", probe.service)
                if problem:
                    raise ValueError(problem)
        return "connected" if probe.kind == "tcp" else "serving"

    return ask


def counters(rate: ErrorRate, target: str) -> Callable[[], str]:
    """The function that reads two metrics and returns their sums as text."""

    def ask() -> str:
        status, body = http_get(target, rate.interval_s, None)
        if status != 200:
            raise ValueError(f"HTTP status {status}")
        text = body.decode(errors="replace")
        return f"{total(text, rate.requests)!r} {total(text, rate.errors)!r}"

    return ask


def read_counters(said: str) -> Counted | None:
    """The sums that `counters` returned; None if the text is something else."""
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


def place(target: str) -> tuple[ListenAddress, str]:
    """The address in a URL, and its path."""
    if target.startswith("unix:"):
        host, _, path = target.removeprefix("unix:").partition(":")
        return parse(host), path or "/"
    authority, _, path = target.removeprefix("http://").partition("/")
    if authority.rpartition(":")[2].isdigit() and ":" in authority:
        return parse(authority), "/" + path
    return parse(authority + ":80"), "/" + path


def http_get(target: str, timeout_s: float, source: socket.socket | None) -> tuple[int, bytes]:
    """The status and the body of one GET request."""
    address, path = place(target)
    with connect(address, timeout_s, source) as connection:
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


def connect(address: ListenAddress, timeout_s: float, source: socket.socket | None) -> socket.socket:
    """Connect to the address; `[::]` and `0.0.0.0` are reached over loopback. `source` is used instead of a new
    socket."""
    if address.kind == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        connection.connect("\0" + address.host[1:] if address.host.startswith("@") else address.host)
        return connection
    host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(address.host, address.host)
    if source is None:
        return socket.create_connection((host, address.port), timeout_s)
    source.settimeout(timeout_s)
    source.connect((host, address.port))
    return source


def _complete(answer: bytes) -> bool:
    """Is the whole answer here? Some servers keep the connection open although the request says `close`."""
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
