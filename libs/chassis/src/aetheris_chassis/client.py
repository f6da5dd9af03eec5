"""Calls to another service: a channel that notices a dead peer, and the one way to retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import tenacity
from aetheris_kernel.errors import Unavailable

from aetheris_chassis import status, traces
from aetheris_chassis.server import MESSAGE_MAX_BYTES

T = TypeVar("T")

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    # A peer that vanished without closing its connections is noticed within 15 seconds, also between calls.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A ping has its own timeout, a minute by default, and gRPC uses the longer of the two.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted peer is found again quickly.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A name with several addresses (a headless service) is several replicas.
    ("grpc.lb_policy_name", "round_robin"),
    # Each channel has its own connection, so that the back-off of one channel does not delay another one.
    ("grpc.use_local_subchannel_pool", 1),
)

_PAUSE_MIN_S = 0.02
_PAUSE_MAX_S = 1.0


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `address`, which the caller closes. It connects at the first call."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=traces.client_interceptors() or None)


async def retrying(call: Callable[[], Awaitable[T]], *, deadline_s: float) -> T:
    """The answer of `call`, which is made again while the peer is away. Only for calls that may safely run twice.

    Raises refusals, and Unavailable once `deadline_s` is over, also in the middle of a try.
    """

    async def attempt() -> T:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            raise status.refusal_from(error) from error

    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=tenacity.wait_random_exponential(multiplier=_PAUSE_MIN_S, max=_PAUSE_MAX_S),
        stop=tenacity.stop_before_delay(deadline_s),
        reraise=True,
    )
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await attempts(attempt)
    except TimeoutError as late:
        if not limit.expired():
            raise
        raise Unavailable("no answer in time", deadline_s=deadline_s) from late
