"""The pages on which people answer: everything is shown as text, and what they send is what was shown."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime

import pytest
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import signals_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from .test_pages import EVIL, JSON, Page

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = "once:pay:\"><b>/é'"


async def ask(world, job: str, **changes) -> str:
    fields = {"approver": "manager", "title": "Pay?", "path": "3"} | changes
    request = signals_pb2.OpenApprovalRequest(job_id=job, tenant="default", **fields)
    async with world.grpc() as stubs:
        return (await stubs.signals.OpenApproval(request)).approval_id


def orders(page: str) -> list[tuple[str, dict]]:
    """What the buttons send."""
    found = re.findall(r'data-post="([^"]*)" data-body=(?:"([^"]*)"|\'([^\']*)\')', page)
    return [(html.unescape(path), json.loads(html.unescape(one or other))) for path, one, other in found]


async def test_an_empty_inbox_says_so(world, http):
    approvals, effects = await http.get("/approvals"), await http.get("/effects")

    assert "No approval waits for a decision" in Page(approvals.text).text
    assert "No effect is in doubt" in Page(effects.text).text
    for page in (approvals, effects):
        assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_an_approval_is_shown_as_text_and_its_buttons_decide_it(world, http):
    job = world.scheduler.add()
    who = {"Aetheris-Actor": "ann", "Aetheris-Roles": "manager"}
    approval = await ask(
        world, job, title=EVIL, detail=JSON, arguments=b'{"a": 1}', requester=EVIL[:100], quorum=2, approver="manager"
    )
    await http.post(f"/api/approvals/{approval}/approve", json={"comment": EVIL}, headers=who)
    page = await http.get("/approvals", headers={"Aetheris-Actor": "bob", "Aetheris-Roles": "manager"})
    parsed = Page(page.text)
    [(approve, yes), (reject, no)] = orders(page.text)
    scripts = [tag for tag, _ in parsed.tags if tag in ("script", "img", "b")]

    assert parsed.text.count("alert(1)") >= 3
    assert scripts.count("script") == 1
    assert "img" not in scripts
    assert "You are bob" in parsed.text.replace("  ", " ")
    assert (approve, yes) == (f"/api/approvals/{approval}/approve", {})
    assert (reject, no) == (f"/api/approvals/{approval}/reject", {})
    assert '"a": 1' in html.unescape(page.text)
    who["Aetheris-Actor"] = "bob"
    assert (await http.post(approve, json=yes, headers=who)).json()["state"] == "approved"


async def test_a_doubt_is_shown_with_what_was_called_and_its_buttons_end_it(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_PARKED)
    created = e.JobCreated("tester", "default", "default", b"{}", at=NOW)
    await world.append(job, [created, e.EffectStarted("0", EVIL, JSON, KEY, 1, at=NOW)])
    await world.append(job, [e.EffectInDoubt("0", KEY, EVIL, at=NOW)])
    page = await http.get("/effects")
    parsed = Page(page.text)
    [ran, did_not, nobody] = orders(page.text)
    answers = [await http.post(path, json=body) for path, body in (did_not, ran, nobody)]

    assert parsed.text.count("alert(1)") >= 3
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert [body["verdict"] for _, body in (ran, did_not, nobody)] == ["committed", "not_executed", "abandoned"]
    assert [answer.status_code for answer in answers] == [200, 409, 409]
    assert answers[0].json()["key"] == KEY
    assert [order.job_id for order in world.scheduler.requeues] == [job]
    assert orders((await http.get("/effects")).text) == [], "it is said, and waits for the job's holder"


async def test_long_arguments_are_whole_and_those_that_were_agreed_to(world, http):
    job = world.scheduler.add()
    asked = json.dumps({"to": "x" * 50_000, "big": 12345678901234567890123})
    approval = await ask(world, job, arguments=asked.encode(), quorum=2)
    who = {"Aetheris-Actor": "ann", "Aetheris-Roles": "manager"}
    edited = {"to": "y" * 50_000, "big": 12345678901234567890123}
    await http.post(f"/api/approvals/{approval}/approve", json={"arguments": edited}, headers=who)
    page = await http.get("/approvals")
    [shown] = re.findall(r"<textarea[^>]*>(.*?)</textarea>", page.text, re.DOTALL)

    assert json.loads(html.unescape(shown)) == edited


async def test_a_page_that_is_long_goes_on(world, http):
    job = world.scheduler.add()
    for number in range(52):
        await ask(world, job, path=str(number))
    first = await http.get("/approvals")
    rest = html.unescape(re.search(r'href="(\?cursor=[^"]*)"', first.text)[1])
    second = await http.get("/approvals" + rest)

    assert [len(orders(page.text)) for page in (first, second)] == [100, 4]
