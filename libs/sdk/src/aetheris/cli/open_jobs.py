"""`aetheris replay --all-open NEW.py`: which open jobs would other code diverge from, before it is deployed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aetheris_api.statuses import FINISHED, JobStatus
from aetheris_journal.events import TERMINAL

from aetheris import history
from aetheris.cli import output
from aetheris.client import Client, Job
from aetheris.errors import AetherisError
from aetheris.history import NothingRecorded
from aetheris.replay import ReplayOutcome, ReplayResult
from aetheris.replay.result import told
from aetheris.replay.sandbox_process import ReplayFailed, Sandbox

_OPEN = [status for status in JobStatus if status not in FINISHED]


@dataclass(slots=True)
class Checked:
    """What the new code does with the open jobs."""

    agents: Sequence[str]
    network: str
    # How many jobs were looked at, and how many of them have no record yet.
    jobs: int = 0
    unbegun: int = 0
    diverged: list[ReplayResult] = field(default_factory=list)
    # The jobs that the new code would fail, with the error.
    failing: dict[str, str] = field(default_factory=dict)
    # The jobs that could not be replayed, with the reason.
    unknown: dict[str, str] = field(default_factory=dict)
    # There are more open jobs than were to be looked at.
    more: bool = False

    @property
    def clean(self) -> bool:
        return not (self.diverged or self.failing or self.unknown)

    def told(self) -> dict[str, Any]:
        return {
            "agents": list(self.agents),
            "jobs": self.jobs,
            "unbegun": self.unbegun,
            "diverged": [result.told() for result in self.diverged],
            "failing": self.failing,
            "unknown": self.unknown,
            "more": self.more,
            "network": self.network,
        }


def check(client: Client, files: Sequence[str], jobs_max: int, advanced: Callable[[int, int], None]) -> Checked:
    """Replay every open job of the agents in `files` over them."""
    sandbox = Sandbox(files)
    try:
        checked = Checked(sandbox.agents, sandbox.network)
        jobs = list(_jobs(client, sandbox.agents, jobs_max + 1))
        checked.more = len(jobs) > jobs_max
        for number, job in enumerate(jobs[:jobs_max]):
            advanced(number, len(jobs))
            checked.jobs += 1
            try:
                _check(checked, job, client, sandbox)
            except ReplayFailed as failed:
                # The agent may have taken the sandbox along.
                checked.unknown[job.id] = str(failed)
                sandbox.close()
                sandbox = Sandbox(files)
            except AetherisError as error:
                checked.unknown[job.id] = str(error)
        return checked
    finally:
        sandbox.close()


def _jobs(client: Client, agents: Sequence[str], jobs_max: int) -> Iterator[Job]:
    for agent in agents:
        found = client.jobs(status=_OPEN, agent=agent, limit=jobs_max)
        yield from found
        jobs_max -= len(found)
        if jobs_max <= 0:
            return


def _check(checked: Checked, job: Job, client: Client, sandbox: Sandbox) -> None:
    commits = [history.read_commit(each.model_dump(mode="json")) for each in client.commits(job.id)]
    try:
        found = history.of_commits(UUID(job.id), commits)
    except NothingRecorded:
        checked.unbegun += 1
        return
    if isinstance(found.events[-1], TERMINAL):
        # It has ended, and the scheduler does not know yet.
        return
    result = sandbox.replay(found, job.id)
    if result.outcome is ReplayOutcome.DIVERGED:
        checked.diverged.append(result)
    elif result.outcome is ReplayOutcome.OPEN and (error := _error(result)):
        checked.failing[job.id] = error


def _error(result: ReplayResult) -> str:
    """The error with which the new code would fail a job that it can replay."""
    return next((each.next for each in result.frontier if each.path == "end" and each.next.startswith("the error")), "")


def show(checked: Checked) -> None:
    for result in checked.diverged:
        output.say(f"diverges after {result.commands} commands: {result.agent}, job {result.job_id}", "red")
        assert result.mismatch is not None
        for line in told(result.mismatch):
            output.say(f"  {line}")
    for job_id, error in checked.failing.items():
        output.say(f"would fail: job {job_id}, with {error}", "red")
    for job_id, problem in checked.unknown.items():
        output.say(f"not replayed: job {job_id}: {problem}", "yellow")
    if checked.more:
        output.complain(f"there are more open jobs than these {checked.jobs}: give --limit")
    what = ", ".join(checked.agents)
    counts = f"{checked.jobs} open jobs of {what}: {len(checked.diverged)} diverge, {len(checked.failing)} would fail"
    if checked.unknown:
        counts += f", {len(checked.unknown)} could not be replayed"
    output.say(counts, "green" if checked.clean else "red")
