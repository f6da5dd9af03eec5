"""X1: SIGKILL at nine places between an assignment and the end of its job, each in a runner of its own.

All nine die side by side; then one runner that dies nowhere takes over what they left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from aetheris_journal import events as e

from harness import evidence
from harness.crashing_runner import VARIABLE, Place
from harness.history import Chain, History, Submission
from harness.invariants import check
from harness.suite import Launch, Suite

from .conftest import AGENTS
from .load import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PLACES = list(Place)


@dataclass(frozen=True)
class After:
    """What is there when everything is over."""

    history: History
    jobs: dict[Place, str]

    def chain(self, place: Place) -> Chain:
        return self.history.chains[self.jobs[place]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def after(tmp_path_factory: pytest.TempPathFactory, counter: str) -> AsyncIterator[After]:
    environment = {"scheduler": {"AETHERIS_GRACE_S": "0.2"}, "runner": {"COUNTER_URL": counter}}
    folder = tmp_path_factory.mktemp("x1")
    async with Suite(folder, runners=0, agents=[AGENTS], environment=environment) as suite:
        names = await asyncio.gather(*(suite.start_runner(crashing(place)) for place in PLACES))
        victims = dict(zip(PLACES, names, strict=True))
        async with httpx.AsyncClient(base_url=suite.http, timeout=30) as api:
            jobs = {place: await submit(api, place) for place in PLACES}

        async def all_dead() -> bool:
            return not suite.runners

        with contextlib.suppress(TimeoutError):
            await until(all_dead)
        # A runner that still runs has not reached its place.
        assert [place.value for place in PLACES if victims[place] in suite.runners] == []
        await suite.start_runner()

        async def all_ended() -> bool:
            return not await evidence.unfinished(suite)

        await until(all_ended)
        rows = await evidence.rows(suite)
        submissions = [
            Submission(str(place), "crashing", (job_id,), result=expected(place)) for place, job_id in jobs.items()
        ]
        async with httpx.AsyncClient(base_url=counter) as provider:
            calls = evidence.calls((await provider.get("/calls")).json())
        chains = await evidence.chains(suite, rows)
        yield After(History(submissions, chains=chains, rows=rows, calls=calls), jobs)


def crashing(place: Place) -> Launch:
    environment = {VARIABLE: place.value, "AETHERIS_QUEUES": place.name}
    return Launch(environment, module="harness.crashing_runner")


async def submit(api: httpx.AsyncClient, place: Place) -> str:
    body = {"input": {"args": [PLACES.index(place)]}, "queue": place.name}
    answer = await api.post("/api/agents/crashing/message", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def expected(place: Place) -> list[int]:
    return [PLACES.index(place), PLACES.index(place), 400_000]


# The leases that wrote to the chain, and how the doubt about the effect ended, if there was one. A lease that is
# lost is used up: lease 2 writes nothing.
RESUMED = {
    Place.BEFORE_CLAIM_ACK: ([3], None),
    Place.AFTER_CLAIM: ([1, 3], None),
    Place.BEFORE_INTENT: ([1, 3], None),
    Place.AFTER_INTENT: ([1, 3], e.Resolution.NOT_EXECUTED),
    Place.IN_CALL: ([1, 3], e.Resolution.COMMITTED),
    Place.AFTER_CALL: ([1, 3], e.Resolution.COMMITTED),
    Place.AFTER_OUTCOME: ([1, 3], None),
    Place.IN_A_STREAM: ([1, 3], None),
    Place.AFTER_END: ([1], None),
}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.value)
async def test_x1_killed(place: Place, after: After) -> None:
    chain = after.chain(place)
    leases = [event.lease for event in chain.events if isinstance(event, e.JobLeased)]
    verdicts = [event.verdict for event in chain.events if isinstance(event, e.EffectResolved)]
    (key,) = {event.key for event in chain.events if isinstance(event, e.EffectStarted)}
    wanted_leases, verdict = RESUMED[place]

    assert leases == wanted_leases
    assert verdicts == ([] if verdict is None else [verdict])
    assert after.history.calls[key].applied == 1


async def test_x1_nothing_is_lost_or_doubled_by_any_of_them(after: After) -> None:
    assert check(after.history) == []
    assert len(after.history.chains) == len(PLACES)
