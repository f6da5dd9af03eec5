"""Steps, tools and agents are plain functions until a runner stands behind them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest
from aetheris import ContractViolation, agent, current_effect, gather, now, signal, sleep, step, tool
from aetheris.context import current, enclosing_step


@dataclass
class Order:
    id: str
    total: float = 1.0


@step
async def look_up(order_id: str, *, total: float = 2.0) -> Order:
    return Order(order_id, total)


@tool
async def charge(order: Order, *, idempotency_key: str) -> str:
    return f"{order.id} {idempotency_key}"


async def test_outside_an_agent_they_are_ordinary_coroutines():
    assert await look_up("o-1") == Order("o-1", 2.0)
    assert await charge(Order("o-1"), idempotency_key="mine") == "o-1 mine"


async def test_a_plain_function_runs_in_a_thread():
    @step
    def where(number: int) -> tuple[int, str]:
        return number, threading.current_thread().name

    number, thread = await where(7)

    assert number == 7
    assert thread != threading.current_thread().name


async def test_an_agent_outside_a_runner_runs_like_any_coroutine():
    @agent("checkout")
    async def checkout(order_id: str) -> str:
        return await charge(await look_up(order_id), idempotency_key="k")

    assert checkout.name == "checkout"
    assert await checkout("o-1") == "o-1 k"


@pytest.mark.parametrize("call", [lambda: sleep(1), lambda: signal("go"), lambda: gather(), lambda: now()])
async def test_what_only_a_runner_can_do_says_so_outside(call: Any):
    with pytest.raises(LookupError, match="inside an agent"):
        await call()


async def test_a_tool_cannot_hide_inside_a_step():
    token = enclosing_step.set("look_up")
    try:
        with pytest.raises(ContractViolation, match="call it from the agent"):
            charge(Order("o-1"), idempotency_key="k")
    finally:
        enclosing_step.reset(token)


async def test_an_agent_does_not_name_the_idempotency_key_itself():
    token = current.set(object())  # type: ignore[arg-type]
    try:
        with pytest.raises(ContractViolation, match="once="):
            charge(Order("o-1"), idempotency_key="mine")
    finally:
        current.reset(token)


def test_an_agent_is_async():
    with pytest.raises(TypeError, match="async def"):

        @agent("plain")
        def plain() -> None: ...  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "a\n"])
def test_a_name_that_cannot_be_a_name_is_refused_where_it_is_given(name: str):
    with pytest.raises(ValueError, match="name"):
        agent(name)(look_up.function)


def test_once_is_no_argument_of_a_tool():
    with pytest.raises(TypeError, match="once"):

        @tool
        async def charge(once: str) -> None: ...


def test_arguments_are_recorded_by_name_with_their_defaults():
    assert look_up.signature.bind(("o-1",), {}) == {"order_id": "o-1", "total": 2.0}
    assert look_up.signature.bind((), {"order_id": "o-1", "total": 3.0}) == {"order_id": "o-1", "total": 3.0}


def test_a_wrong_call_is_a_type_error_that_names_the_step():
    with pytest.raises(TypeError, match="look_up"):
        look_up(1, 2, 3)


def test_the_effect_in_hand_is_for_the_inside_of_a_tool():
    with pytest.raises(LookupError, match="inside of a tool"):
        current_effect()
