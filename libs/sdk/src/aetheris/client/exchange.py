"""The parts of a call that both clients share: read answers and errors, decide about another try, parse streams."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from aetheris_api.jobs import Job
from aetheris_api.record import Event
from aetheris_api.statuses import JobStatus
from pydantic import BaseModel, ValidationError

from aetheris.client.calls import Call
from aetheris.client.errors import ApiError, JobCancelled, JobFailed, Unreachable
from aetheris.errors import AetherisError

Answer = TypeVar("Answer", bound=BaseModel)


class Http(httpx.Client):
    """The synchronous client's connections. Scripts often do not close a client, so they are closed when it is
    collected; otherwise Python would warn of open sockets."""

    def __del__(self) -> None:
        with suppress(AttributeError):  # raised if the constructor failed half-way
            self.close()


# Under the name that the generator of the synchronous client replaces by `Http`.
AsyncHttp = httpx.AsyncClient

DEFAULT_URL = "http://localhost:8080"
# The longest the server is asked to wait in one request.
WAIT_S = 30.0
# The server sends something on a stream at least every 15 seconds.
STREAM_SILENCE_S = 45.0
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 2.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MESSAGE_CHARS = 500


def checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an address is like {DEFAULT_URL}, not {url!r}")
    return url.rstrip("/")


def settings(url: str, timeout_s: float, actor: str | None, roles: Sequence[str]) -> dict[str, Any]:
    """Arguments for httpx. A proxy that the environment names is not used for an address on this machine."""
    return {
        "base_url": url,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        "trust_env": urlsplit(url).hostname not in _LOOPBACK,
        "headers": {"User-Agent": "aetheris-python"} | _who(actor, roles),
    }


def _who(actor: str | None, roles: Sequence[str]) -> dict[str, str]:
    """Headers are ASCII, so names are percent-encoded."""
    if not actor:
        if roles:
            raise ValueError("roles belong to a person: give actor= too")
        return {}
    given = {"Aetheris-Roles": ",".join(quote(role, safe=" ") for role in roles)} if roles else {}
    return {"Aetheris-Actor": quote(actor, safe=" @.")} | given


def arguments(call: Call[Any], timeout_s: float) -> dict[str, Any]:
    headers = {} if call.body is None else {"Content-Type": "application/json"}
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "content": call.body,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s + call.patience_s, connect=min(timeout_s, 5.0)),
    }


def read(call: Call[Answer], response: httpx.Response) -> Answer:
    try:
        return call.answer.model_validate_json(response.content)
    except ValidationError as error:
        raise AetherisError(
            f"this client does not understand the answer of {response.request.url}; is it Aetheris?"
        ) from error


def refusal(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        return ApiError(str(error["code"]), str(error["message"]), response.status_code, error.get("details"))
    except (ValueError, KeyError, TypeError):
        # The answer of a proxy in between, or of a server that is not Aetheris.
        text = response.text.strip()[:_MESSAGE_CHARS] or response.reason_phrase
        return ApiError(f"HTTP_{response.status_code}", text, response.status_code)


def unreachable(url: str, failure: httpx.TransportError) -> Unreachable:
    if isinstance(failure, httpx.ConnectError):
        return Unreachable(f"cannot reach Aetheris at {url}: is it running? `make run-embedded` starts it")
    return Unreachable(f"Aetheris at {url} did not answer: {failure or type(failure).__name__}")


@dataclass(slots=True)
class Patience:
    """When a call is tried again: until the time `until`, if there was no answer, or a 503 or 429."""

    until: float
    tries: int = 0

    def pause(self, now: float, response: httpx.Response | None) -> float | None:
        """Seconds to wait before the next try; None if there is to be no more."""
        if response is not None and response.status_code not in (429, 503):
            return None
        self.tries += 1
        most = min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2**self.tries)
        pause_s = random.uniform(most / 2, most)
        if response is not None:
            asked = response.headers.get("retry-after", "")
            pause_s = max(pause_s, float(asked)) if asked.isdecimal() else pause_s
        return pause_s if now + pause_s <= self.until else None


def ended(job: Job) -> Job:
    """The job, if it completed; raises JobFailed or JobCancelled if not."""
    if job.status == JobStatus.CANCELLED:
        raise JobCancelled(job)
    if job.status == JobStatus.FAILED:
        raise JobFailed(job)
    return job


@dataclass(slots=True)
class Reading:
    """A stream of server-sent events, fed line by line."""

    last_seq: int
    over: bool = False
    _name: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def begin(self) -> dict[str, str]:
        """The headers of a request that continues the stream. The connection may have broken in the middle of a
        message, so what was read of that message is dropped."""
        self._name, self._data = "", []
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self.last_seq)}

    def feed(self, line: str) -> Iterator[Event]:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._name = value
            elif name == "id":
                self._id = value
            elif name == "data":
                self._data.append(value)
            return
        name, data = self._name, "\n".join(self._data)
        self._name, self._data = "", []
        if name == "end":
            self.over = True
        elif name == "refused":
            error = json.loads(data)
            raise ApiError(error["code"], error["message"], 200)
        elif not name and data:
            commit = json.loads(data)
            for event in commit["events"]:
                yield Event.model_validate(event)
            self.last_seq = int(self._id)
