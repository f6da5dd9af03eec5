"""Clients that ask for work of every shape, and write down each answer they get."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from harness.history import Answer, Signal, Submission

# A client that is not answered for so long has lost something.
PATIENCE_S = 60.0
_AGAIN_S = 0.1
# The jobs have no requester, so Bob may decide.
_BOB = {"Aetheris-Actor": "bob", "Aetheris-Roles": "clerk"}


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of job: what it is asked, what it must answer, and what its client does meanwhile."""

    agent: str
    args: list[Any]
    result: Any = None
    state: str = "completed"
    signals: dict[str, Any] = field(default_factory=dict)
    cancelled_after_s: float | None = None
    letters: tuple[str, ...] = ()
    # What the clerk says, where one is asked.
    approved: bool | None = None


def drawn(dice: random.Random, number: int) -> Shape:
    after_s = round(dice.choice([0.0, 0.05, 0.3, 1.0]), 3)
    shapes: list[Callable[[], Shape]] = [
        lambda: Shape("steps", [count := dice.randrange(3, 30)], sum(range(count)) + count),
        lambda: Shape("pay", [number, after_s], [number, number + 1]),
        lambda: Shape("post", [number, after_s], [number, number + 1, number + 2]),
        lambda: Shape("transfer", [number, after_s], number),
        lambda: Shape("ask", [number], ["a", number, number], signals={"first": "a", "second": number}),
        lambda: Shape("nap", [number, round(dice.uniform(0.1, 2.0), 3)], True),
        lambda: Shape(
            "fan",
            [number, after_s],
            [number, number + 1, number + 2, number + 3, {"go": number}, after_s],
            signals={"go": {"go": number}},
        ),
        lambda: Shape("try", [number], f"no {number}"),
        lambda: Shape("fail", [number], state="failed"),
        lambda: Shape("wait", [number], state="cancelled", cancelled_after_s=dice.uniform(0.0, 2.0)),
        lambda: Shape("hold", [number], state="cancelled", cancelled_after_s=dice.uniform(0.0, 2.0)),
        lambda: Shape("regret", [number, after_s], state="failed"),
        lambda: Shape("stubborn", [number], [number, number + 1, number + 2]),
        lambda: Shape("mailbox", [len(letters := _letters(dice))], [*letters], letters=letters),
        lambda: Shape("permit", [number], [number, ["bob"]], approved=True),
        lambda: Shape("permit", [number], [False, ["bob"]], approved=False),
        lambda: Shape("parent", [number, after_s], [number, number + 1, "ValueError"]),
        lambda: Shape("spread", [number], [number + each for each in range(5)]),
        lambda: Shape("rounds", [number], number + 3),
        lambda: Shape("unruly", [number], [number, *[1] * 6, number + 1, number + 2, number + 3, 2, 2, 1, number + 4]),
    ]
    return dice.choices(shapes, [2, 4, 2, 2, 3, 2, 3, 1, 1, 1, 1, 2, 2, 2, 1, 1, 2, 1, 2, 2])[0]()


def _letters(dice: random.Random) -> tuple[str, ...]:
    return tuple(f"letter {each}" for each in range(dice.randrange(1, 6)))


class Load:
    """`per_s` jobs a second until `enough` is set; `run` returns when every client has been answered."""

    def __init__(self, http: str, *, seed: int, per_s: float) -> None:
        self._api = httpx.AsyncClient(base_url=http, timeout=5.0, limits=httpx.Limits(max_connections=64))
        self._seed, self._per_s = seed, per_s
        self.enough = asyncio.Event()
        self.submissions: list[Submission] = []
        self.signals: list[Signal] = []
        # Answers that must not occur.
        self.surprises: list[str] = []
        self.asked_again = 0

    async def run(self) -> None:
        dice = random.Random(f"{self._seed} clients")
        number = 0
        async with self._api, asyncio.TaskGroup() as clients:
            while not self.enough.is_set():
                number += 1
                clients.create_task(self._client(number))
                pause_s = dice.expovariate(self._per_s)
                try:
                    async with asyncio.timeout(pause_s):
                        await self.enough.wait()
                except TimeoutError:
                    pass

    async def _client(self, number: int) -> None:
        dice = random.Random(f"{self._seed} client {number}")
        shape = drawn(dice, number * 10)
        key = f"{shape.agent}-{number}"
        # Some ask twice, and some at the same moment: it is one job.
        again = dice.choice([0, 0, 0, 1, 2])
        ids = await asyncio.gather(*(self._submit(key, shape) for _ in range(1 + again)))
        found = tuple(job_id for job_id in ids if job_id)
        self.submissions.append(Submission(key, shape.agent, found, shape.state, shape.result))
        if not found:
            self.surprises.append(f"nobody answered the submission of {key} for {PATIENCE_S:.0f} s")
            return
        async with asyncio.TaskGroup() as saying:
            for signal, payload in shape.signals.items():
                saying.create_task(self._signal(random.Random(f"{key} {signal}"), found[0], signal, payload))
            if shape.letters:
                saying.create_task(self._write(dice, found[0], shape.letters))
            if shape.approved is not None:
                saying.create_task(self._decide(found[0], shape.approved))
            if shape.cancelled_after_s is not None:
                saying.create_task(self._cancel(found[0], shape.cancelled_after_s))

    async def _submit(self, key: str, shape: Shape) -> str:
        body = {"input": {"args": shape.args}, "idempotency_key": key}
        answer = await self._say(f"/api/agents/{shape.agent}/message", body, {202})
        return "" if answer is None else str(answer.json()["job_id"])

    async def _signal(self, dice: random.Random, job_id: str, key: str, payload: Any) -> None:
        """At any time from now on, and some more than once: together, a little later, or when it is long over."""
        first_s = dice.uniform(0.0, 3.0)
        times = [first_s, *(first_s + dice.choice([0.0, 0.05, 2.0]) for _ in range(dice.choice([0, 0, 1, 3])))]
        answers = await asyncio.gather(*(self._signal_once(at_s, job_id, key, payload) for at_s in times))
        self.signals.append(Signal(job_id, key, payload, tuple(answer for answer in answers if answer)))

    async def _signal_once(self, at_s: float, job_id: str, key: str, payload: Any) -> Answer | None:
        await asyncio.sleep(at_s)
        body = {"correlation_key": key, "payload": payload}
        answer = await self._say(f"/api/jobs/{job_id}/signal", body, {200, 409})
        if answer is None:
            self.surprises.append(f"nobody answered the signal {key} of {job_id} for {PATIENCE_S:.0f} s")
            return None
        return Answer(answer.status_code, time.time(), str(answer.json().get("signal_id", "")))

    async def _cancel(self, job_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if await self._say(f"/api/jobs/{job_id}/stop", {"reason": "the drill says so"}, {200}) is None:
            self.surprises.append(f"nobody answered the cancel of {job_id} for {PATIENCE_S:.0f} s")

    async def _write(self, dice: random.Random, job_id: str, letters: tuple[str, ...]) -> None:
        """One after the other, and some of them again: they arrive in this order, once."""
        for number, letter in enumerate(letters):
            body = {"channel": "letters", "message_id": f"m-{number}", "payload": letter}
            for _ in range(dice.choice([1, 1, 2])):
                if await self._say(f"/api/jobs/{job_id}/message", body, {200, 202, 409}) is None:
                    self.surprises.append(f"nobody answered letter {number} to {job_id} for {PATIENCE_S:.0f} s")

    async def _decide(self, job_id: str, approved: bool) -> None:
        """As soon as it is asked. An answer that was not heard is given again, and then it is on record already."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            asked = await self._say(f"/api/approvals?job={job_id}", None, {200})
            found = [] if asked is None else asked.json()["approvals"]
            if found:
                verb = "approve" if approved else "reject"
                await self._say(f"/api/approvals/{found[0]['id']}/{verb}", {}, {200, 409}, _BOB)
                return
            await asyncio.sleep(_AGAIN_S)
        self.surprises.append(f"nobody was asked about {job_id} for {PATIENCE_S:.0f} s")

    async def _say(
        self, path: str, body: dict[str, Any] | None, wanted: set[int], headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """Until it is answered; a gateway that is away, or says that others are, is asked again."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = await (
                    self._api.get(path) if body is None else self._api.post(path, json=body, headers=headers)
                )
            except httpx.TransportError:
                pass
            else:
                if answer.status_code in wanted:
                    return answer
                if answer.status_code != 503:
                    self.surprises.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            self.asked_again += 1
            await asyncio.sleep(_AGAIN_S)
        return None


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 30.0, every_s: float = 0.05) -> None:
    """What is waited for is in other processes."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(every_s)
