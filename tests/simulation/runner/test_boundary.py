"""D2: whatever an author's code raises or returns, the job goes on or ends, and its record is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from aetheris import Retry, Unchanged, agent, gather, step, tool
from aetheris.driving.boundary import Crossing, Threw, contained
from aetheris.driving.failures import described, revived, said
from aetheris.errors import ValueRefused
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState

from harness.world import JOB, World, turns


class Panic(BaseException):
    """What an extension module in Rust raises when it panics."""


class Speechless(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


class Nameless(type):
    """A metaclass that answers nothing about its classes, and believes nothing about their instances."""

    def __getattribute__(cls, name: str) -> NoReturn:
        raise Panic(f"no {name} here")

    def __instancecheck__(cls, instance: object) -> NoReturn:
        raise Panic("no instance")

    def __subclasscheck__(cls, subclass: type) -> NoReturn:
        raise Panic("no class")

    def __eq__(cls, other: object) -> NoReturn:
        raise Panic("no equal")

    def __hash__(cls) -> int:
        return 1


def unclassed() -> BaseException:
    # Not at the top of the module: pytest would ask the class for attributes.
    class Unclassed(Exception, metaclass=Nameless):
        pass

    return Unclassed("x")


class Lying(Exception):
    """Says that it is another class."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        return Unchanged


class Guarded(Exception):
    """Every attribute raises."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise KeyboardInterrupt(name)


class Misplaced(Exception):
    __module__ = 7  # type: ignore[assignment]


class Unmakeable(Exception):
    """Cannot be made again, pickled or copied."""

    def __new__(cls, *args: object) -> Any:
        if not args:
            raise SystemExit(5)
        return super().__new__(cls, *args)

    def __reduce__(self) -> NoReturn:
        raise Panic("no pickle")


def chained() -> Exception:
    error = ValueError("outer")
    error.__cause__ = Exiting()
    error.__context__ = Speechless()
    return error


# What may come out of a piece of author's code.
RAISED: dict[str, Callable[[], BaseException]] = {
    "panic": lambda: Panic("index out of bounds"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "stop": lambda: StopIteration(7),
    "async stop": lambda: StopAsyncIteration(7),
    "cancelled": asyncio.CancelledError,
    "memory": MemoryError,
    "recursion": lambda: RecursionError("too deep"),
    "speechless": Speechless,
    "exiting": Exiting,
    "nameless": unclassed,
    "lying": lambda: Lying("x"),
    "guarded": lambda: Guarded("x"),
    "misplaced": lambda: Misplaced("x"),
    "unmakeable": lambda: Unmakeable("x"),
    "chained": chained,
    "group": lambda: BaseExceptionGroup("two", [SystemExit(3), Panic("x")]),
    "silent group": lambda: ExceptionGroup("one", [Speechless()]),
    "half a character": lambda: ValueError("\ud800"),
    "large": lambda: ValueError("x" * 5_000_000),
}
ALL = pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED.keys())
LIMITS = pytest.mark.parametrize("limits", [{}, {"timeout": "1h"}], ids=["unlimited", "limited"])


def settled(world: World) -> None:
    """No effect is left open, and every event can be read."""
    assert EffectState.STARTED not in {row.state for row in world.store.rows.values()}
    assert world.events(JOB)


async def ended(world: World, job: Any) -> Any:
    outcome = await world.drive(job, JOB)
    settled(world)
    return outcome


@ALL
@LIMITS
async def test_a8_a_step_that_raises_anything_fails_and_its_job_goes_on(
    raised: Callable[[], BaseException], limits: dict[str, Any]
) -> None:
    world = World()

    @step(**limits)
    async def breaks() -> None:
        raise raised()

    @step(**limits)
    def breaks_in_a_thread() -> None:
        raise raised()

    @agent("goes_on")
    async def goes_on() -> int:
        caught = 0
        for each in (breaks, breaks_in_a_thread):
            try:
                await each()
            except Exception:
                caught += 1
        return caught

    assert await ended(world, goes_on) == ports.Completed(b"2")
    assert len([event for event in world.events(JOB) if isinstance(event, e.StepFailed)]) == 2


@ALL
@LIMITS
@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "thread"])
async def test_a5_a_tool_that_raises_anything_is_in_doubt_and_on_record(
    raised: Callable[[], BaseException], limits: dict[str, Any], plain: bool
) -> None:
    world = World()

    async def breaks() -> None:
        raise raised()

    def breaks_in_a_thread() -> None:
        raise raised()

    charge = tool(name="charge", **limits)(breaks_in_a_thread if plain else breaks)

    @agent("pays")
    async def pays() -> str:
        try:
            await charge()
        except Exception:
            return "went on"
        return "paid"

    outcome = await ended(world, pays)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert [row.state for row in world.store.rows.values()] == [EffectState.IN_DOUBT]


@ALL
@pytest.mark.parametrize("where", ["agent", "branch", "model"])
async def test_a8_an_agent_that_raises_anything_ends_its_job(raised: Callable[[], BaseException], where: str) -> None:
    world = World()

    async def branch() -> None:
        raise raised()

    class Result:
        def __iter__(self) -> Any:
            raise raised()

    @agent("breaks")
    async def breaks() -> Any:
        if where == "branch":
            await gather(branch(), branch())
        if where == "model":
            return Result()
        raise raised()

    assert isinstance(await ended(world, breaks), ports.Failed)


@ALL
async def test_what_verify_raises_leaves_the_doubt_as_it_was(raised: Callable[[], BaseException]) -> None:
    world = World()

    async def find() -> Any:
        raise raised()

    @tool(verify=find)
    async def charge() -> None:
        raise ValueError("lost the answer")

    @agent("pays")
    async def pays() -> None:
        await charge()

    outcome = await ended(world, pays)

    assert isinstance(outcome, ports.Parked)
    assert outcome.reason == "in doubt: charge"


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "thread"])
@ALL
async def test_a_result_whose_writing_raises_does_not_say_that_the_tool_did_nothing(
    raised: Callable[[], BaseException], plain: bool
) -> None:
    """Its writing is code of the author, too. It may even raise what stands for an unchanged world."""
    world = World()
    entered = 0

    class Result:
        def __init__(self, error: Callable[[], BaseException]) -> None:
            self._error = error

        def __iter__(self) -> Any:
            raise self._error()

    async def charges() -> Any:
        nonlocal entered
        entered += 1
        return Result(raised if entered == 1 else lambda: Unchanged("no"))

    def charges_in_a_thread() -> Any:
        nonlocal entered
        entered += 1
        return Result(lambda: Unchanged("no"))

    charge = tool(name="charge", retry=Retry(attempts=3))(charges_in_a_thread if plain else charges)

    @agent("pays")
    async def pays() -> None:
        await charge()

    outcome = await ended(world, pays)

    assert isinstance(outcome, ports.Parked)
    assert entered == 1
    (doubt,) = [event for event in world.events(JOB) if isinstance(event, e.EffectInDoubt)]
    assert doubt.reason.startswith("it returned, but")


async def test_a_retry_policy_or_a_pause_that_raises_is_no_reason_to_try_again() -> None:
    world = World()
    tried = 0

    class Policy(Retry):
        def hopeless(self, error: BaseException) -> bool:
            raise Panic("no policy")

    class Asking(Unchanged):
        @property
        def retry_after(self) -> Any:
            raise Panic("no pause")

    @step(retry=Policy(attempts=3))
    async def breaks() -> None:
        nonlocal tried
        tried += 1
        raise Asking("x")

    @tool(retry=Retry(attempts=2, first="1s"))
    async def asks() -> None:
        nonlocal tried
        tried += 1
        raise Asking("x")

    @agent("tries")
    async def tries() -> str:
        for each in (breaks, asks):
            with suppress(Exception):
                await each()
        return "went on"

    assert await ended(world, tries) == ports.Completed(b'"went on"')
    assert tried == 3


async def test_a_code_that_is_closed_from_outside_is_no_error_of_its_own() -> None:
    """A coroutine that the garbage collector closes gets GeneratorExit, from a task that is not its own."""
    error: list[BaseException] = []

    async def code() -> None:
        try:
            with Crossing():
                await asyncio.get_running_loop().create_future()
        except GeneratorExit as closed:
            error.append(closed)
            raise

    running = asyncio.get_running_loop().create_task(code())
    await turns(3)
    coroutine = running.get_coro()
    assert coroutine is not None
    coroutine.close()
    running.cancel()
    await asyncio.wait({running})

    assert len(error) == 1


@ALL
def test_every_error_is_recorded_as_far_as_it_can_be_read(raised: Callable[[], BaseException]) -> None:
    error = raised()
    try:
        raise error
    except BaseException as same:
        failure = described(same)

    assert failure.type
    assert len(failure.message.encode()) <= 8 * 1024
    assert isinstance(revived(failure), Exception)
    assert str(revived(failure)) == failure.message
    assert type(said(error)) is str


def test_contained_catches_everything() -> None:
    for raised in RAISED.values():

        def code(raised: Callable[[], BaseException] = raised) -> None:
            raise raised()

        assert isinstance(contained(code), Threw)


async def test_values_that_cannot_be_recorded_are_refused_before_anything_happened() -> None:
    world = World()
    entered = 0

    @tool
    async def charge(what: Any) -> None:
        nonlocal entered
        entered += 1

    class Strange:
        def __iter__(self) -> Any:
            raise ValueError("no")

    @agent("pays")
    async def pays() -> str:
        try:
            await charge(Strange())
        except ValueRefused:
            return "refused"
        return "paid"

    assert await ended(world, pays) == ports.Completed(b'"refused"')
    assert entered == 0
