"""The trace page: escaped, whole without scripts, and bounded."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import aetheris_gateway.http.pages.trace
import aetheris_gateway.service.record
import aetheris_proto.gateway.v1.gateway_pb2 as pb
import asyncpg
import grpc
import pytest
from aetheris_journal import events as e
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EVIL = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
JSON = b'"' + EVIL.encode().replace(b'"', b'\\"') + b'"'
CREATED = e.JobCreated("tester", "default", "default", b'{"message":"hi"}', at=NOW)


def at(ms: int) -> datetime:
    return NOW + timedelta(milliseconds=ms)


class Page(HTMLParser):
    """The elements and the text of a page, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts = 0
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


async def test_all_values_of_a_job_are_shown_as_text(world, http):
    wire = event_pb2.Failure(type=EVIL, message=EVIL, stack=EVIL)
    job = world.scheduler.add(idempotency_key=EVIL, park_reason=EVIL, input=JSON, failure=wire)
    failure = e.Failure(EVIL, EVIL, True, EVIL)
    await world.append(
        job,
        [
            CREATED,
            e.JobLeased(1, EVIL, EVIL, at=at(1)),
            e.StepFailed("0", EVIL, JSON, failure, 1, timedelta(0), at(9), at=at(2)),
            e.StepCommitted("0", EVIL, JSON, JSON, 2, timedelta(0), at=at(3)),
            e.JobWaiting(EVIL, e.WaitKind.SIGNAL, EVIL, None, JSON, at=at(4)),
            e.MessageReceived(EVIL, EVIL, JSON, EVIL, at=at(5)),
            e.ChildStarted("7", EVIL, EVIL, JSON, at=at(6)),
            e.EffectCommitted("8", EVIL, JSON, 1, timedelta(0), EVIL, EVIL, JSON, at=at(7)),
            e.StepCommitted("9", "not json", b"<b>not json", b"\xff<script>", 1, timedelta(0), at=at(9)),
        ],
        [e.EffectStarted("10", EVIL, JSON, "key" + EVIL, 1, at=at(10))],
        [e.EffectInDoubt("10", "key" + EVIL, EVIL, at=at(11))],
        [e.EffectResolved("10", "key" + EVIL, e.Resolution.COMMITTED, e.Source.PERSON, JSON, EVIL, EVIL, at=at(12))],
    )
    answer = await http.get(f"/api/jobs/{job}/trace/page")
    page = Page(answer.text)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(tag in ("img", "b") and "onerror" in found for tag, found in page.tags)
    assert all(name != "style" and not name.startswith("on") for _, found in page.tags for name in found)
    assert page.text.count("alert(1)") > 20
    policy = answer.headers["content-security-policy"]
    [nonce] = set(re.findall(r"'nonce-([^']+)'", policy))
    assert "default-src 'none'" in policy
    assert [found["nonce"] for tag, found in page.tags if tag in ("script", "style")] == [nonce, nonce]
    assert nonce not in (await http.get(f"/api/jobs/{job}/trace/page")).headers["content-security-policy"]


async def test_a_page_asks_for_nothing_from_elsewhere(world, http):
    job = world.scheduler.add()
    await world.append(job, [CREATED, e.JobLeased(1, "r1", at=at(1))])
    page = Page((await http.get(f"/api/jobs/{job}/trace/page")).text)
    links = [value for _, found in page.tags for name, value in found.items() if name in ("href", "src")]

    assert links
    assert all(value == "data:," or value.startswith("/") for value in links), links


async def test_a_page_tells_the_whole_story(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED, result=b'{"total": 1.10}')
    key, ms = "a" * 64, timedelta(milliseconds=1)
    slow, day = e.Failure("Timeout", "too slow", True), 86_400_000
    await world.append(
        job,
        [
            CREATED,
            e.JobLeased(1, "runner-a", at=at(1)),
            e.StepFailed("0", "score", b"[]", slow, 1, 5 * ms, at(50), at=at(10)),
            e.StepCommitted("0", "score", b"[]", b"7", 2, 20 * ms, at=at(80)),
            e.StepCommitted("1.0.0", "left", b"[]", b"1", 1, 20 * ms, at=at(100)),
            e.StepCommitted("1.1.0", "right", b"[]", b"1", 1, 20 * ms, at=at(101)),
            e.JobWaiting("2", e.WaitKind.APPROVAL, "manager", at(10**9), b'{"title":"Charge?"}', at=at(110)),
        ],
        [
            e.WaitCompleted("2", b"true", False, "n", "ada", at=at(day)),
            e.EffectStarted("3", "charge", b"{}", key, 1, at=at(day + 100)),
        ],
    )
    await world.append(
        job,
        [
            e.JobLeased(2, "runner-b", at=at(day + 1000)),
            e.EffectInDoubt("3", key, "runner-a was lost", at=at(day + 1001)),
        ],
        [
            e.EffectResolved("3", key, e.Resolution.COMMITTED, e.Source.VERIFY, b'"receipt"', at=at(day + 1002)),
            e.JobCompleted(b'{"total": 1.10}', at=at(day + 1003)),
        ],
        lease=2,
    )
    answer = await http.get(f"/api/jobs/{job}/trace/page")
    page = Page(answer.text)

    for words in (
        *("completed", "✓ chain intact · 4 commits", "1 takeover", "×2", "parallel block at 1", "branch 1", "manager"),
        *("Timeout: too slow", "by ada", "runner-a was lost", "committed, by verify", key, "side effect committed"),
        *('"total": 1.10', "nothing ran, drawn shorter"),
    ):
        assert words in page.text, words
    assert "script" not in [tag for tag, _ in page.tags], "a finished job's page does not change"


async def test_a_broken_chain_is_said_so(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    await world.append(job, [CREATED, e.JobLeased(1, "r1", at=at(1))])
    page = Page((await http.get(f"/api/jobs/{job}/trace/page")).text)

    assert "✗ chain broken at commit 2" in page.text


async def test_a_page_does_not_wait_for_a_ledger_that_verifies_slowly(world, http, monkeypatch):
    job = world.scheduler.add()
    await world.append(job, [CREATED])

    async def unavailable(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(aetheris_gateway.service.record.RecordService, "verify", unavailable)
    page = Page((await http.get(f"/api/jobs/{job}/trace/page")).text)

    assert "chain not checked" in page.text


async def test_long_traces_are_paged_and_very_long_ones_are_cut(world, http, monkeypatch):
    monkeypatch.setattr(aetheris_gateway.http.pages.trace, "STEPS_A_PAGE", 10)
    monkeypatch.setattr(aetheris_gateway.service.record, "TRACE_EVENTS_MAX", 20)
    monkeypatch.setattr(aetheris_gateway.service.record, "COMMITS", 1)
    job = world.scheduler.add()
    steps = [[e.StepCommitted(str(n), "step", b"[]", b"1", 1, timedelta(0), at=at(n))] for n in range(30)]
    await world.append(job, [CREATED], *steps)
    first, second, third = [
        Page((await http.get(f"/api/jobs/{job}/trace/page", params={"page": page})).text) for page in (1, 2, 9)
    ]
    trace = (await http.get(f"/api/jobs/{job}/trace")).json()
    async with world.grpc() as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs.gateway.GetTrace(pb.GetTraceRequest(job_id=job))

    assert "steps 1 to 10 of 19" in first.text
    assert "steps 11 to 19 of 19" in second.text
    assert "There is no such page" in third.text
    assert "this is its beginning" in first.text
    assert (len(trace["steps"]), trace["complete"]) == (19, False)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_event_of_a_later_version_is_refused_with_what_to_do(world, http):
    job = world.scheduler.add()
    await world.append(job, [CREATED])
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute("ALTER TABLE ledger.commits DISABLE TRIGGER ALL")
        unknown = event_pb2.Body(events=[event_pb2.Event()]).SerializeToString()
        table = "ledger.commits"
        await connection.execute(f"UPDATE {table} SET body = $1", unknown)
    finally:
        await connection.close()
    answers = [await http.get(f"/api/jobs/{job}/{what}") for what in ("events", "trace", "trace/page")]

    for answer in answers:
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] in ("CHAIN_BROKEN", "CONFLICT")
