"""Every route and every RPC declares who may use it, and nothing is declared that does not exist."""

from __future__ import annotations

import ast
import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aetheris_proto
import pytest
from aetheris_api.permissions import Permission
from aetheris_api.routes import ROUTES, Route
from aetheris_api.rpcs import PEER_METHODS, PUBLIC_METHODS
from aetheris_gateway.http.application import build
from aetheris_gateway.http.origin import AllowedHosts
from fastapi import FastAPI
from starlette.routing import Route as ServedRoute

ROOT = Path(__file__).parents[2]


def served_routes() -> set[tuple[str, str]]:
    """Method and path of everything that the gateway answers over HTTP, pages and OpenAPI included."""
    app = build(None, None, checks={}, draining=asyncio.Event(), hosts=AllowedHosts.parse(""))  # type: ignore[arg-type]
    inner = app._app  # type: ignore[attr-defined]
    assert isinstance(inner, FastAPI)
    return {(method, route.path) for route in below(inner) for method in (route.methods or ()) if method != "HEAD"}


def below(router: Any) -> Iterator[ServedRoute]:
    """Routes, also those of included routers, which newer versions of FastAPI keep as they are."""
    for route in router.routes:
        if isinstance(route, ServedRoute):
            yield route
        else:
            yield from below(route.original_router)


def implemented_services() -> set[str]:
    """The services of the contract that one of our classes implements: `class …(pb2_grpc.LedgerServicer)`."""
    bases = {
        ast.unparse(base).rpartition(".")[2]
        for file in (ROOT / "services").glob("*/src/**/*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }
    return {base.removesuffix("Servicer") for base in bases if base.endswith("Servicer")}


def served_methods() -> set[str]:
    """Full names of all RPCs of the services that we implement."""
    implemented, found = implemented_services(), set()
    for module in pkgutil.walk_packages(aetheris_proto.__path__, "aetheris_proto."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                if service.name in implemented:
                    found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return found


def test_every_route_and_page_declares_its_permission_and_is_served():
    assert served_routes() == {(route.method, route.path) for route in ROUTES}


def test_every_route_is_declared_once():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_every_rpc_declares_its_permission_or_its_callers_and_is_served():
    assert len(served_methods()) > 40
    assert served_methods() == {*PUBLIC_METHODS, *PEER_METHODS}
    assert not set(PUBLIC_METHODS) & set(PEER_METHODS)
    assert all(PEER_METHODS.values())


def test_every_permission_is_needed_by_something():
    needed = {route.permission for route in ROUTES} | set(PUBLIC_METHODS.values())

    assert needed == set(Permission)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_an_address_holds_its_parameters_encoded(route: Route):
    names = {"agent_id", "job_id", "approval_id", "token", "key"}
    address = route.at(**dict.fromkeys(names, "a/b c"))

    assert address.count("a%2Fb%20c") == route.path.count("{")
    assert "{" not in address
