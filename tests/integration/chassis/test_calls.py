"""What the one interceptor makes of refusals and faults, in every kind of call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import structlog
from aetheris_chassis.status import ERROR_ID_KEY, refusal_from
from aetheris_kernel.errors import KINDS, Conflict, Fenced, NotFound, Refusal
from prometheus_client import REGISTRY

from harness.probe import METHODS, SERVICE, Probe, ask, probing


def raising(failure: BaseException):
    async def answer(_: bytes) -> bytes:
        raise failure

    return Probe(answer)


async def refused(channel, method: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel, method, b"hello")
    return caught.value


@pytest.mark.parametrize("method", METHODS)
async def test_an_answer_passes_unchanged(method):
    async with probing(Probe()) as (_, channel):
        assert await ask(channel, method, b"hello") == [b"hello"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_refusal_comes_back_with_its_kind_its_reason_and_its_facts(method):
    async with probing(raising(Fenced("not the tail", job_id="j", seq=3))) as (_, channel):
        error = await refused(channel, method)
        refusal = refusal_from(error)

        assert error.code() is grpc.StatusCode.ABORTED
        assert type(refusal) is Fenced
        assert (refusal.message, refusal.facts) == ("not the tail", {"job_id": "j", "seq": "3"})


@pytest.mark.parametrize("method", METHODS)
async def test_a_fault_tells_the_caller_only_an_id_and_the_log_the_rest(method):
    with structlog.testing.capture_logs() as lines:
        async with probing(raising(KeyError("the password"))) as (_, channel):
            error = await refused(channel, method)
    trailers: Any = error.trailing_metadata()
    logged = next(line for line in lines if line["event"] == "call failed")

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert dict(trailers) == {ERROR_ID_KEY: logged["error_id"]}
    assert type(refusal_from(error)) is Refusal
    assert "the password" in str(logged["exc_info"])


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_makes_the_round_trip(kind):
    async with probing(raising(kind("no", fact=1))) as (_, channel):
        refusal = refusal_from(await refused(channel, "Unary"))

        assert type(refusal) is kind
        assert refusal.facts == {"fact": "1"}


async def test_a_reason_that_only_the_other_side_knows_stays_readable():
    class Unheard(Conflict):
        reason = "EFFECT_STATE"

    async with probing(raising(Unheard("no"))) as (_, channel):
        refusal = refusal_from(await refused(channel, "Unary"))

        assert type(refusal) is Conflict
        assert refusal.reason == "EFFECT_STATE"
        assert Conflict.reason == "CONFLICT"


async def test_a_refusal_inside_a_task_group_is_a_refusal():
    async with probing(raising(ExceptionGroup("group", [ExceptionGroup("inner", [NotFound("no")])]))) as (_, channel):
        assert type(refusal_from(await refused(channel, "Unary"))) is NotFound


async def test_what_a_peer_refuses_is_refused_here():
    async with probing(raising(NotFound("no", job_id="j"))) as (_, peer):

        async def forward(request: bytes) -> bytes:
            return (await ask(peer, "Unary", request))[0]

        async with probing(Probe(forward)) as (_, channel):
            refusal = refusal_from(await refused(channel, "Unary"))

            assert (type(refusal), refusal.facts) == (NotFound, {"job_id": "j"})


async def test_a_servicer_may_still_abort_by_itself():
    probe = Probe()

    async def answer(_: bytes) -> bytes:
        await probe.contexts[-1].abort(grpc.StatusCode.DATA_LOSS, "by hand")
        return b""

    probe.answer = answer
    with structlog.testing.capture_logs() as lines:
        async with probing(probe) as (_, channel):
            error = await refused(channel, "Unary")

    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "by hand")
    assert [line["code"] for line in lines if "code" in line] == ["DATA_LOSS"]
    assert "call failed" not in {line["event"] for line in lines}


async def test_a_handler_that_reads_and_writes_is_handed_grpcs_own_context_and_nothing_in_between():
    probe = Probe()
    async with probing(probe) as (_, channel):
        await ask(channel, "WritingBothWays", b"a", b"b")

        assert type(probe.contexts[0]).__module__ == "grpc._cython.cygrpc"


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"method": f"/{SERVICE}/Unary", **labels}) or 0.0


async def test_calls_are_counted_timed_and_told_in_one_line():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes) -> bytes:
        entered.set()
        await leave.wait()
        if request == b"bad":
            raise NotFound("no")
        return request

    before = [count("aetheris_rpc_handled_total", code=code) for code in ("OK", "NOT_FOUND")]
    timed = count("aetheris_rpc_seconds_count")
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with probing(Probe(answer)) as (_, channel):
            first = asyncio.create_task(ask(channel, "Unary", b"good"))
            await entered.wait()
            in_flight = count("aetheris_rpc_in_flight")
            leave.set()
            await first
            await refused_with(channel, b"bad")
    told = [line for line in lines if line["event"] == "call answered"]

    assert [count("aetheris_rpc_handled_total", code=code) for code in ("OK", "NOT_FOUND")] == [n + 1 for n in before]
    assert count("aetheris_rpc_seconds_count") == timed + 2
    assert (in_flight, count("aetheris_rpc_in_flight")) == (1, 0)
    assert [(line["method"], line["code"], line["service"]) for line in told] == [
        (f"/{SERVICE}/Unary", "OK", "probe"),
        (f"/{SERVICE}/Unary", "NOT_FOUND", "probe"),
    ]
    assert all(line["seconds"] > 0 for line in told)


async def refused_with(channel, request: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(channel, "Unary", request)


async def test_a_call_that_its_caller_gives_up_is_told_as_cancelled():
    entered, left = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes) -> bytes:
        entered.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            left.set()

    with structlog.testing.capture_logs() as lines:
        async with probing(Probe(answer)) as (_, channel):
            call = asyncio.create_task(ask(channel, "Unary", b""))
            await entered.wait()
            call.cancel()
            await left.wait()

    assert [line["code"] for line in lines if line["event"] == "call answered"] == ["CANCELLED"]
