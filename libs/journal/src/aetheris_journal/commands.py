"""A program's commands as values, and their answers.

A *program* decides the next command of a job: an agent in Python, a task graph, a list of commands. A *settler* answers
commands. There are three: the engine executes and records, the replay reader looks the answer up at the same place, the
rehearsal looks it up by the same call. None of them knows what kind of program asked.

    program ── settle("3", CallTool("charge", b'{"amount":5}')) ──► settler
            ◄── Settled(b'"receipt-1"') ────────────────────────────

Everything in a command is bytes, numbers and text, so it can be recorded, compared and sent. The one exception is
`code`: what the host needs to find the code of a step or tool. It is not part of the command's value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, NoReturn, Protocol

from aetheris_journal.events import Failure, ValueKind


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a step or tool is tried, the first attempt included, and how long apart."""

    attempts: int = 1
    first_pause: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    most_pause: timedelta = timedelta(minutes=5)
    jitter: float = 0.2
    # No attempt begins this long after the first one began.
    window: timedelta | None = None


# Not frozen, though it is not changed once it is made: one is made for every step of every job, also of those that the
# record answers, and a frozen one costs more than twice as much to build.
@dataclass(slots=True)
class RunStep:
    """Run code without a side effect, and record what it returned."""

    name: str
    arguments: bytes
    # Wait until the result is durable.
    durable: bool = False
    # None where the author asked for no retries.
    backoff: Backoff | None = None
    code: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallTool:
    """Make a side effect, at most once."""

    name: str
    arguments: bytes
    # The business key; without one the effect is this call in this job.
    once: str | None = None
    backoff: Backoff | None = None
    # Calling again under the same key is harmless.
    idempotent: bool = False
    # The host can ask the world whether the effect happened.
    can_verify: bool = False
    # The tool that takes the effect back; empty where there is none.
    compensate: str = ""
    code: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sleep:
    span: timedelta


@dataclass(frozen=True, slots=True)
class WaitSignal:
    """Answered with the signal's payload."""

    key: str
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ReceiveMessage:
    """Answered with the payload of the next message of the channel."""

    channel: str
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class AskApproval:
    """Ask people. Answered with what they decided, as the gateway wrote it. A replay compares everything except
    `expires`."""

    approver: str
    title: str
    detail: bytes = b""  # JSON
    arguments: bytes = b""  # JSON; empty where there is nothing to edit
    quorum: int = 1
    requester_may_decide: bool = False
    expires: timedelta | None = None

    def text(self) -> bytes:
        """As it is recorded; who is asked is recorded beside it."""
        return json.dumps(
            {
                "title": self.title,
                "detail": json.loads(self.detail) if self.detail else None,
                "arguments": json.loads(self.arguments) if self.arguments else None,
                "editable": bool(self.arguments),
                "quorum": self.quorum,
                "requester_may_decide": self.requester_may_decide,
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()


@dataclass(frozen=True, slots=True)
class MakeToken:
    """Sign a token with which its bearer ends one wait. Answered with the token and its deadline, as JSON."""

    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class AwaitToken:
    """Wait until the token that was made at `place` is used. `place` is a name that the settler gave."""

    place: str
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReadValue:
    """The time, a random number or an id: drawn once, and read from the record by every later run."""

    kind: ValueKind


@dataclass(frozen=True, slots=True)
class StartChild:
    """Answered with the child's job id."""

    agent: str
    input: bytes
    queue: str = ""
    parent_close: str = "cancel"
    # Calls under the same key in one job mean one child.
    key: str = ""


@dataclass(frozen=True, slots=True)
class AwaitChild:
    """Answered with the child's result, or its failure."""

    job_id: str


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """Forget the record so far. The program begins again from its start, with `state`."""

    state: bytes


@dataclass(frozen=True, slots=True)
class Compensate:
    """Take back every effect so far that can be taken back."""


@dataclass(frozen=True, slots=True)
class OpenMap:
    """Begin a map over this many items. Answered with the numbers of the items to run, as JSON, if an earlier run
    recorded them; with nothing if every item may run."""

    items: int
    tolerated: int

    @property
    def arguments(self) -> bytes:
        return b'{"items":%d,"tolerated":%d}' % (self.items, self.tolerated)


@dataclass(frozen=True, slots=True)
class CloseMap:
    """Record which items of a failed map were begun, so that every later run begins the same ones."""

    opened: OpenMap
    begun: bytes


@dataclass(frozen=True, slots=True)
class OpenRace:
    """Begin a race of this many branches. Answered with the number of the winner, if an earlier run recorded it."""

    branches: int

    @property
    def arguments(self) -> bytes:
        return b'{"branches":%d}' % self.branches


@dataclass(frozen=True, slots=True)
class DecideRace:
    """A branch has ended. The first to say so wins, the others are cancelled. Answered with the winner's number."""

    opened: OpenRace
    branch: int


@dataclass(frozen=True, slots=True)
class OpenDeadline:
    """Cancel the commands under this place when `span` is over. The moment is computed and recorded when the command is
    first executed."""

    span: timedelta


@dataclass(frozen=True, slots=True)
class CloseDeadline:
    """Given at the place of its `OpenDeadline`. `Settled.timed_out` says whether the time was over before the commands
    were."""


@dataclass(frozen=True, slots=True)
class CancelChild:
    """Cancel a child. It takes its effects back first, so its end may come much later."""

    job_id: str

    @property
    def arguments(self) -> bytes:
        return json.dumps({"child": self.job_id}, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class AwaitBranch:
    """Answered when the branch whose paths begin with `prefix` has ended. The program knows how it ended."""

    prefix: str

    @property
    def arguments(self) -> bytes:
        return _branch(self.prefix)


@dataclass(frozen=True, slots=True)
class CancelBranch:
    """Cancel the branches whose paths begin with `prefix`. Each of them ends at its next command that is not
    recorded."""

    prefix: str

    @property
    def arguments(self) -> bytes:
        return _branch(self.prefix)


def _branch(prefix: str) -> bytes:
    return b'{"branch":"%b"}' % prefix.encode()


def cancelled_branch(name: str, arguments: bytes) -> str | None:
    """The prefix of the paths that a recorded step cancels, if the step stands for a `CancelBranch`."""
    if name != CANCEL or not arguments.startswith(b'{"branch":'):
        return None
    prefix: str = json.loads(arguments)["branch"]
    return prefix


@dataclass(frozen=True, slots=True)
class AskChanged:
    """Given at the path of the next command, which it does not use up. Answered with true if the record has not passed
    this place, and that is recorded; with false if it has, under code that did not ask."""

    name: str

    @property
    def arguments(self) -> bytes:
        return json.dumps({"change": self.name}, separators=(",", ":")).encode()


Command = (
    RunStep
    | CallTool
    | Sleep
    | WaitSignal
    | ReceiveMessage
    | AskApproval
    | MakeToken
    | AwaitToken
    | ReadValue
    | StartChild
    | AwaitChild
    | SaveCheckpoint
    | Compensate
    | OpenMap
    | CloseMap
    | OpenRace
    | DecideRace
    | OpenDeadline
    | CloseDeadline
    | CancelChild
    | AskChanged
    | AwaitBranch
    | CancelBranch
)

# The names of the recorded steps that stand for commands of the engine and not for a step of the author.
MAP, COMPENSATE, RACE, CANCEL, BRANCH, CHANGED = "map", "compensate", "race", "cancel", "branch", "changed"
# The name of a recorded timer that belongs to a deadline.
DEADLINE = "deadline"


class Settled(NamedTuple):
    """How a command ended: with a value, with a failure, or because its time was over.

    A tuple, because one is made for every command and a frozen dataclass costs three times as much to build.
    """

    value: bytes = b""
    failure: Failure | None = None
    timed_out: bool = False
    # The error behind the failure, if it was raised in this process: for people who read a traceback.
    cause: BaseException | None = None
    # The value was in the record when the command was given: other code may have recorded it.
    recorded: bool = False


# The answer to a wait that would end after the last year of the calendar. Its text can be recorded, and a replay
# compares it: it never changes.
TOO_LONG = Settled(failure=Failure("ValueError", "that is longer than the calendar: time ends with the year 9999"))


def ends_in_time(now: datetime, span: timedelta | None) -> bool:
    """Whether the calendar has the moment `span` after `now`."""
    return span is None or span <= datetime.max - now.replace(tzinfo=None)


# The class of the failure of a tool that a cancel kept from being entered.
CANCELLED = "Cancelled"

# The failure of a job whose agent raises CancelledError although nothing has cancelled it. It is recorded, and a replay
# compares it: it never changes.
CANCELLED_ITSELF = Failure("CancelledError", "the agent cancelled itself")

# The class of the failure of a tool whose effect a person has abandoned.
ABANDONED = "aetheris.errors:EffectAbandoned"


def abandoned(tool: str) -> Settled:
    # An agent can catch this text and record it, and a replay compares it: it never changes.
    return Settled(failure=Failure(ABANDONED, f"nobody knows whether {tool} happened, and it was given up on"))


# The class of the failure of a tool whose result is too large to be recorded.
TOO_LARGE = "aetheris.errors:ResultTooLarge"


def too_large(tool: str, told: bytes) -> Failure:
    """What the agent gets instead of such a result. `told` is recorded in the result's place."""
    # An agent can catch this text and record it, and a replay compares it: it never changes.
    size = json.loads(told)
    return Failure(
        TOO_LARGE,
        f"{tool} happened, but its result has {size['bytes']} bytes of JSON, which is too large to be recorded "
        f"(SHA-256 {size['sha256']})",
    )


class Settler(Protocol):
    """Answers one program's commands."""

    async def settle(self, path: str, command: Command) -> Settled:
        """The answer to `command`, which the program gives at `path`. Never returns if there is no answer: the job
        parks or stops, or the replay is at the end of its record."""

    async def together(
        self,
        path: str,
        numbers: Sequence[int],
        start: Callable[[int], Coroutine[Any, Any, None]],
        *,
        limit: int | None = None,
        more: Callable[[], bool] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        """Run branches side by side to the end of all of them: `start(number)` for each of `numbers`, in their order,
        at most `limit` at once. With `more`, a branch that no earlier run began is begun only while `more()` holds.
        `ended(number)` is called when a branch is over, also where it was stopped before its first turn."""

    def start(self, prefix: str, branch: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        """Run a branch, whose paths begin with `prefix`, beside the code that starts it. A branch that the record shows
        as cancelled is answered from the record and comes no further. `ended()` is called when the branch is over, also
        where it was stopped before its first turn."""

    async def ended(self, prefix: str) -> None:
        """Wait until every started branch whose paths begin with `prefix` has ended. Nothing interrupts this but the
        end of the run."""

    def cancelled(self, prefix: str) -> bool:
        """Whether the branch whose paths begin with `prefix` is cancelled: each of its commands that is not recorded
        raises CancelledError."""

    async def unreadable(self, path: str, problem: str) -> NoReturn:
        """Called when the program cannot read the recorded answer of its command. Never returns: the job parks, for the
        code that recorded the answer, or for an operator."""

    def named(self, path: str) -> str:
        """The name of `path` outside this job, in keys and tokens. After a checkpoint, paths start again at 0, and
        names do not."""


@dataclass(frozen=True, slots=True)
class ProgramReturned:
    result: bytes


@dataclass(frozen=True, slots=True)
class ProgramFailed:
    failure: Failure
    # The error itself, if it was raised in this process: a replay shows its line.
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    # Where the program's code raised it, for people.
    place: str = field(default="", compare=False)
    # The author asks for a pause in the place of a failure, so that the code can be mended: the error is not one that
    # the record gave the program.
    parks: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ProgramUnreadable:
    """The program cannot read the job's input, or the state that its last checkpoint saved."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class ProgramRestarts:
    """The program saved a checkpoint, and is to be run again from its start."""


ProgramEnd = ProgramReturned | ProgramFailed | ProgramUnreadable | ProgramRestarts


class Program(Protocol):
    """Decides the next command of one job. A settler knows nothing else about it."""

    async def run(self, settler: Settler, given: bytes, state: bytes | None) -> ProgramEnd:
        """Run from the start to the end. `given` is the job's input, `state` the state that its last checkpoint
        saved."""
