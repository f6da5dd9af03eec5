"""Every door asks who is calling, in one place: a walk over all routes and all calls."""

from __future__ import annotations

import grpc
import httpx
import pytest
from aetheris_gateway.identity import Caller, Identity
from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb

from .test_hostile import SPEC, VALID, filled

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

# These say nothing about any job. A token is its own permission.
OPEN_ROUTES = {"/api/health", "/metrics", "/api/agents", "/api/runners", "/api/tokens/{token}"}
OPEN_CALLS = {"CompleteToken", "ListRunners"}
NOBODYS_ROLE = {"Aetheris-Roles": "manager"}

ROUTES = [
    (path, method) for path, operations in SPEC["paths"].items() for method in operations if path not in OPEN_ROUTES
]


async def test_every_route_asks_who_is_calling(world, http: httpx.AsyncClient):
    for path, method in ROUTES:
        answer = await http.request(method, filled(path), json=VALID.get(path), headers=NOBODYS_ROLE)
        assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, "Aetheris-Actor"), path


async def test_every_call_asks_who_is_calling(world):
    methods = [name for name in pb.DESCRIPTOR.services_by_name["Gateway"].methods_by_name if name not in OPEN_CALLS]
    async with world.grpc() as stubs:
        for name in methods:
            call = getattr(stubs.gateway, name)(
                getattr(pb, f"{name}Request")(), metadata=(("aetheris-roles", "manager"),)
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await (call.read() if hasattr(call, "read") else call)
            assert "Aetheris-Actor" in (refused.value.details() or ""), name


@pytest.mark.parametrize(
    ("headers", "local", "caller"),
    [
        ({}, True, Caller("default", "local", owner=True)),
        ({}, False, Caller("default", "anonymous")),
        ({"aetheris-actor": " "}, False, Caller("default", "anonymous")),
        ({"aetheris-actor": "ann"}, True, Caller("default", "ann")),
        ({"aetheris-actor": "local"}, False, Caller("default", "local")),
        ({"aetheris-actor": "Zo%C3%AB", "aetheris-roles": "a, b,,a"}, False, Caller("default", "Zoë", frozenset("ab"))),
    ],
)
def test_who_is_calling_is_what_the_headers_say(headers, local, caller):
    assert Identity(local).caller(headers) == caller


@pytest.mark.parametrize(
    "headers",
    [
        {"aetheris-roles": "manager"},
        {"aetheris-actor": "x" * 129},
        {"aetheris-actor": "a%00b"},
        {"aetheris-actor": "a%1B[31m"},
        {"aetheris-actor": "%ff"},
        {"aetheris-actor": "a", "aetheris-roles": "person:eve"},
        {"aetheris-actor": "a", "aetheris-roles": "x" * 129},
        {"aetheris-actor": "a", "aetheris-roles": ",".join(map(str, range(65)))},
        {"aetheris-actor": "a", "aetheris-roles": "a%0Ab"},
    ],
)
def test_a_name_that_could_not_be_shown_is_nobodys(headers):
    with pytest.raises(Invalid):
        Identity(True).caller(headers)
