"""Agent programs as data: drawn from a seed, run by one agent through the SDK, shrunk while they still fail.

    (step 1)  (both [(verified 2)] [(signal x) (sleep 3)])  (caught [(fails 4)])

Every command has a number of its own, which is its argument and part of its result: removing one command does not
change the others.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aetheris import (
    DidNotHappen,
    Happened,
    Retry,
    Unchanged,
    agent,
    approval,
    awakeable,
    compensate,
    current_effect,
    gather,
    now,
    receive,
    signal,
    sleep,
    step,
    tool,
    uuid,
)
from aetheris import map as each
from aetheris import random as random_number
from aetheris.definitions import AgentDefinition
from aetheris.outcomes import step_in_hand

# How often a kind is drawn. Those with branches hold programs of their own.
KINDS = {
    "step": 4, "durable": 2, "again": 2, "fails": 1,
    "plain": 2, "verified": 3, "idempotent": 2, "once": 2, "declined": 1, "busy": 2, "undoable": 3,
    "sleep": 2, "signal": 3, "timeout": 1, "approval": 2, "awakeable": 1, "now": 1, "random": 1, "uuid": 1,
    "both": 3, "map": 1, "caught": 2,
}  # fmt: skip
# Only in the main branch: it is not defined which of two branches gets which message.
MAIN = {**KINDS, "receive": 2, "compensate": 1}
# Code that misbehaves: what it raises is no Exception, or cannot be printed, or comes from the writing of its result.
WILD = {**KINDS, "panics": 3, "torn": 4, "unwritable": 4}
SIGNALS = ("x", "y")
DEPTH_MAX = 2
# How often a map runs its block.
ITEMS = 3


@dataclass(frozen=True, slots=True)
class Command:
    kind: str
    number: int
    branches: tuple[Program, ...] = ()
    name: str = ""  # of the signal, or the business key

    def __str__(self) -> str:
        if self.branches:
            return f"({self.kind} {' '.join(shown(branch) for branch in self.branches)})"
        return f"({self.kind} {self.name or self.number})"


Program = tuple[Command, ...]


def shown(program: Program) -> str:
    return f"[{' '.join(map(str, program))}]"


def commands(program: Program) -> Iterator[Command]:
    """All of them, also those in branches."""
    for command in program:
        yield command
        for branch in command.branches:
            yield from commands(branch)


class _Numbers:
    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last


def draw(seed: int, size: int, *, main: Mapping[str, int] = MAIN, kinds: Mapping[str, int] = KINDS) -> Program:
    """The program of this seed, of about so many commands: of `main` in the main branch, and of `kinds` in others."""
    return _drawn(random.Random(seed), size, _Numbers(), (main, kinds), 0)


def _drawn(
    dice: random.Random,
    size: int,
    numbers: _Numbers,
    of: tuple[Mapping[str, int], Mapping[str, int]],
    depth: int,
) -> Program:
    program: list[Command] = []
    while size > 0:
        weights = of[min(depth, 1)]
        (kind,) = dice.choices(list(weights), list(weights.values()))
        number = numbers.next()
        if kind in ("both", "map", "caught"):
            if depth == DEPTH_MAX:
                continue
            count = dice.randint(2, 3) if kind == "both" else 1
            room = max(size - 1, count)
            branches = tuple(
                _drawn(dice, dice.randint(1, max(1, room // count)), numbers, of, depth + 1) for _ in range(count)
            )
            program.append(Command(kind, number, branches))
            size -= sum(len(list(commands(branch))) for branch in branches) + 1
            continue
        program.append(Command(kind, number, (), dice.choice(SIGNALS) if kind in ("signal", "once") else ""))
        size -= 1
    return tuple(program)


def smaller(program: Program) -> Iterator[Program]:
    """The same program with one command less, or with a block replaced by its content."""
    for place, command in enumerate(program):
        before, after = program[:place], program[place + 1 :]
        yield before + after
        for branch in command.branches:
            yield before + branch + after
        for number, branch in enumerate(command.branches):
            for less in smaller(branch):
                branches = (*command.branches[:number], less, *command.branches[number + 1 :])
                yield (*before, Command(command.kind, command.number, branches, command.name), *after)


class Changed(Protocol):
    """The outside world: tools change it and read it."""

    results: dict[str, Any]

    async def do(self, key: str, result: Any) -> Any: ...


class Declined(Unchanged):
    """The provider declines for good."""


class Busy(Unchanged):
    """The provider declines for now."""


# No jitter: the same program takes the same time in every run.
PATIENT = Retry(attempts=4, first="30s", jitter=0.0)


class Panic(BaseException):
    """What an extension module raises when it panics. It has no text."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Unwritable:
    """A result whose writing says that nothing has happened."""

    def __iter__(self) -> Any:
        raise Declined("it is not written")


class Steps:
    """The steps that a program is made of."""

    @staticmethod
    @step
    async def pure(number: int) -> str:
        return f"step {number}"

    @staticmethod
    @step(durable=True)
    async def durable(number: int, given: str) -> str:
        return f"durable {number}"

    @staticmethod
    @step
    async def fails(number: int) -> str:
        raise ValueError(f"step {number} fails")

    @staticmethod
    @step
    async def panics(number: int) -> str:
        raise Panic(number)

    # A step that has a limit knows which attempt it is.
    @staticmethod
    @step(retry=PATIENT, timeout="10m")
    async def again(number: int) -> str:
        in_hand = step_in_hand.get()
        assert in_hand is not None
        if in_hand.attempt < 3:
            raise ConnectionError(f"attempt {in_hand.attempt}")
        return f"again {number}"


def tools(world: Changed) -> dict[str, Any]:
    """One tool of each policy, all of them acting on `world`."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        found = world.results.get(idempotency_key)
        return DidNotHappen() if found is None else Happened(found)

    async def do(what: str, key: str) -> str:
        return str(await world.do(key, what))

    @tool
    async def plain(number: int, *, idempotency_key: str) -> str:
        return await do(f"plain {number}", idempotency_key)

    @tool(verify=find)
    async def verified(number: int, *, idempotency_key: str) -> str:
        return await do(f"verified {number}", idempotency_key)

    @tool(verify=find)
    async def torn(number: int, *, idempotency_key: str) -> str:
        await do(f"torn {number}", idempotency_key)
        raise Panic(number)

    @tool(verify=find)
    async def unwritable(number: int, *, idempotency_key: str) -> Any:
        await do(f"unwritable {number}", idempotency_key)
        return Unwritable()

    @tool(idempotent=True)
    async def idempotent(number: int, *, idempotency_key: str) -> str:
        return await do(f"idempotent {number}", idempotency_key)

    @tool(verify=find)
    async def once(name: str, *, idempotency_key: str) -> str:
        return await do(f"once {name}", idempotency_key)

    @tool
    async def declined(number: int) -> str:
        raise Declined(f"tool {number} is declined")

    @tool(verify=find, retry=PATIENT)
    async def busy(number: int, *, idempotency_key: str) -> str:
        effect = current_effect()
        assert effect is not None
        if effect.attempt < 2:
            raise Busy(f"attempt {effect.attempt}")
        return await do(f"busy {number}", idempotency_key)

    @tool(verify=find)
    async def undo(number: int, *, idempotency_key: str) -> str:
        return await do(f"undo {number}", idempotency_key)

    @tool(verify=find, compensate=undo)
    async def undoable(number: int, *, idempotency_key: str) -> str:
        return await do(f"undoable {number}", idempotency_key)

    made = (plain, verified, torn, unwritable, idempotent, once, declined, busy, undoable)
    return {definition.name: definition for definition in made}


def agent_of(program: Program, world: Changed) -> AgentDefinition[Any]:
    """The agent that runs `program`. What it returns is what each command brought."""
    effects = tools(world)

    async def run(block: Program) -> list[Any]:
        return [await one(command) for command in block]

    async def one(command: Command) -> Any:
        number, name = command.number, command.name
        match command.kind:
            case "step":
                return await Steps.pure(number)
            case "durable":
                return await Steps.durable(number, "nothing")
            case "again":
                return await Steps.again(number)
            case "fails":
                return await Steps.fails(number)
            case "panics":
                return await Steps.panics(number)
            case "once":
                return await effects["once"](name, once=name)
            case "sleep":
                await sleep(60 * number)
                return "slept"
            case "signal":
                return await signal(name)
            case "timeout":
                return await _in_time(number)
            case "approval":
                verdict = await approval("manager", title=str(number))
                return "yes" if verdict.approved else f"no: {verdict.comment}"
            case "awakeable":
                handle = await awakeable()
                return [await Steps.durable(number, handle.token), await handle]
            case "receive":
                return await receive()
            case "compensate":
                return await compensate()
            case "now" | "random" | "uuid":
                # The value differs in every run, so the agent does not return it. It is recorded as a step's argument,
                # so that a resumed run which gets another value is caught.
                return await Steps.durable(number, await _value(command.kind))
            case "both":
                return list(await gather(*(run(branch) for branch in command.branches)))
            case "map":
                return await _mapped(lambda: run(command.branches[0]))
            case "caught":
                try:
                    return await run(command.branches[0])
                except Exception as error:
                    return f"caught {error}"
        return await effects[command.kind](number)

    @agent("program")
    async def program_agent() -> list[Any]:
        return await run(program)

    return program_agent


async def _mapped(block: Callable[[], Awaitable[list[Any]]]) -> list[str]:
    """Two at a time, so that the third begins when one of them has ended, whichever that is."""

    async def item(_: int) -> Any:
        return await block()

    return [str(result) for result in await each(item, range(ITEMS), limit=2, tolerate=ITEMS)]


async def _in_time(number: int) -> str:
    try:
        return str(await signal(f"never {number}", timeout=30 * number))
    except TimeoutError:
        return "too late"


async def _value(kind: str) -> str:
    match kind:
        case "now":
            return str(await now())
        case "random":
            return str(await random_number())
    return str(await uuid())


def messages_of(program: Sequence[Command]) -> int:
    """How many messages the program wants."""
    return sum(command.kind == "receive" for command in commands(tuple(program)))
