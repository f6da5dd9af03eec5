"""A server from its first call to its last."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest
from aetheris_chassis.exposition import exposing
from aetheris_chassis.server import RunningServer
from aetheris_chassis.status import refusal_from
from aetheris_kernel.errors import Forbidden, Invalid, Unavailable
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from harness.probe import SERVICE, Probe, ask, probing

Up = asyncio.Queue[tuple[RunningServer, Any]]


class Held:
    """An answer that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = False

    async def __call__(self, request: bytes) -> bytes:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            for _ in range(50):
                await asyncio.sleep(0)
            self.cancelled = True
            raise
        return request


async def served(probe: Probe, until: asyncio.Event, up: Up, **settings) -> None:
    async with probing(probe, **settings) as (server, channel):
        up.put_nowait((server, channel))
        await until.wait()


async def draining(probe: Probe, held: Held, **settings):
    """A server that has begun to drain with one call in flight."""
    until, up = asyncio.Event(), Up()
    server = asyncio.create_task(served(probe, until, up, **settings))
    _, channel = await up.get()
    in_flight = asyncio.create_task(ask(channel, "Unary", b"hello"))
    await held.entered.wait()
    until.set()
    await probe.draining.wait()
    return server, channel, in_flight


async def test_a_call_in_flight_finishes_during_the_drain_and_new_calls_are_refused():
    held = Held()
    server, channel, in_flight = await draining(Probe(held), held)
    refusal = None
    async with asyncio.timeout(15):
        while refusal is None:
            held.release.clear()
            late = asyncio.create_task(ask(channel, "Unary", b"late"))
            done, _ = await asyncio.wait({late}, timeout=0.05)
            if done:
                failure = late.exception()
                assert isinstance(failure, grpc.aio.AioRpcError)
                refusal = refusal_from(failure)
            late.cancel()
    still_draining = not server.done()
    held.release.set()
    answer = await in_flight
    await server

    assert type(refusal) is Unavailable
    assert still_draining
    assert answer == [b"hello"]


async def test_a_call_that_outlasts_the_drain_is_cut_off_and_its_handler_has_ended():
    held = Held()
    server, _, in_flight = await draining(Probe(held), held, drain_s=0.05)
    await server
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await in_flight

    assert held.cancelled
    assert type(refusal_from(cut.value)) is Unavailable


async def test_a_second_cancellation_skips_the_drain():
    held = Held()
    server, _, in_flight = await draining(Probe(held), held, drain_s=1000)
    server.cancel()
    async with asyncio.timeout(15):
        await asyncio.wait({server})
    with suppress(grpc.aio.AioRpcError):
        await in_flight

    assert server.cancelled()
    assert held.cancelled


async def test_a_stream_that_watches_the_drain_ends_it():
    probe, entered = Probe(), asyncio.Event()

    async def until_draining(_: bytes) -> bytes:
        entered.set()
        await probe.draining.wait()
        return b"bye"

    probe.answer = until_draining
    until, up = asyncio.Event(), Up()
    server = asyncio.create_task(served(probe, until, up, drain_s=1000))
    _, channel = await up.get()
    stream = asyncio.create_task(ask(channel, "WritingBothWays", b"hello"))
    await entered.wait()
    until.set()
    async with asyncio.timeout(15):
        await server

    assert await stream == [b"bye"]


async def test_health_is_serving_per_service_until_the_drain_and_who_watches_does_not_hold_it_up():
    held = Held()
    probe = Probe(held)
    until, up = asyncio.Event(), Up()
    server = asyncio.create_task(served(probe, until, up, drain_s=1000))
    _, channel = await up.get()
    health = health_pb2_grpc.HealthStub(channel)
    checks = [
        (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
        for name in ("", SERVICE, "grpc.health.v1.Health")
    ]
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    watched = [(await watch.read()).status]
    until.set()
    async with asyncio.timeout(15):
        while answer := await watch.read():
            watched.append(answer.status)
        await server

    assert checks == [health_pb2.HealthCheckResponse.SERVING] * 3
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert watched == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


async def test_a_process_that_can_do_no_work_is_alive_and_not_ready():
    work = [True]
    async with probing(Probe(), ready=lambda: work[0]) as (_, channel):
        health = health_pb2_grpc.HealthStub(channel)

        async def told(service: str) -> Any:
            return (await health.Check(health_pb2.HealthCheckRequest(service=service))).status

        before = await told("ready")
        work.clear()
        work.append(False)

        assert (before, await told("ready"), await told("")) == (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
            health_pb2.HealthCheckResponse.SERVING,
        )


async def test_reflection_names_the_services():
    async with probing(Probe()) as (_, channel):

        async def asking():
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        answers = [a async for a in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asking())]

        assert SERVICE in {service.name for service in answers[0].list_services_response.service}


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "some.host:0"])
async def test_nothing_listens_beyond_loopback_unless_it_is_told_to_trust_the_network(listen):
    with pytest.raises(Forbidden, match="AETHERIS_TRUST_NETWORK=true"):
        async with probing(Probe(), listen=listen):
            pass


async def test_a_metrics_page_beyond_loopback_is_refused_as_well():
    with pytest.raises(Forbidden, match="AETHERIS_METRICS_LISTEN"):
        async with probing(Probe(), metrics_listen="0.0.0.0:0"):
            pass


async def test_on_a_trusted_network_it_listens_everywhere():
    async with probing(Probe(), listen="0.0.0.0:0", trust_network=True) as (server, channel):
        assert server.address.startswith("0.0.0.0:")
        assert await ask(channel, "Unary", b"hello") == [b"hello"]


async def test_it_listens_on_a_socket_file(tmp_path):
    async with probing(Probe(), listen=f"unix:{tmp_path}/s") as (server, channel):
        assert server.address == f"unix:{tmp_path}/s"
        assert await ask(channel, "Unary", b"hello") == [b"hello"]


async def test_a_port_that_is_taken_is_named_and_never_shared():
    async with probing(Probe()) as (server, _):
        with pytest.raises(Unavailable, match=server.address):
            async with probing(Probe(), listen=server.address):
                pass


@pytest.mark.parametrize("listen", ["", "9091", "host:", ":9091", "host:99999", "unix:", "host:-1"])
async def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(Invalid, match="AETHERIS_LISTEN"):
        async with probing(Probe(), listen=listen):
            pass


async def test_messages_of_sixteen_megabytes_pass_and_larger_ones_do_not():
    limit = 16 * 1024 * 1024
    async with probing(Probe()) as (_, channel):
        whole = await ask(channel, "Unary", bytes(limit))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(channel, "Unary", bytes(limit + 1))

        assert len(whole[0]) == limit
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def http(address: str, request: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    async with asyncio.timeout(15):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


async def test_a_scraper_that_says_nothing_is_cut_off():
    async with exposing("127.0.0.1:0", trust_network=False, healthy=lambda: True, request_s=0.05) as address:
        status, _ = await http(str(address), "GET /metrics")

        assert status == ""


async def test_metrics_and_health_are_served_over_http():
    held = Held()
    held.release.set()
    async with probing(Probe(held), metrics_listen="127.0.0.1:0") as (server, channel):
        await ask(channel, "Unary", b"hello")
        address = server.metrics_address
        status, body = await http(address, "GET /metrics HTTP/1.1\r\n\r\n")
        others = [
            (await http(address, request))[0]
            for request in (
                "GET /healthz HTTP/1.1\r\n\r\n",
                "GET /elsewhere HTTP/1.1\r\n\r\n",
                "POST /metrics HTTP/1.1\r\n\r\n",
                "nonsense\r\n\r\n",
            )
        ]
        server.draining.set()
        drained = await http(address, "GET /healthz HTTP/1.1\r\n\r\n")

        assert status == "HTTP/1.1 200 OK"
        assert f'aetheris_rpc_handled_total{{code="OK",method="/{SERVICE}/Unary"}}' in body
        assert [other.split(" ")[1] for other in others] == ["200", "404", "405", "405"]
        assert drained == ("HTTP/1.1 503 Service Unavailable", "draining\n")
