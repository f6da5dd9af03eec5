"""Records the histories of this version: `make histories` before a release.

Each job runs in a simulated world, is forgotten at every park and taken over by another process, and is answered
as a person would. What a version has recorded stays as it is; later versions replay it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from aetheris import history
from aetheris.definitions import AgentDefinition
from aetheris.driving.agents import load_agents
from aetheris_engine import ports

sys.path.append(str(Path(__file__).parents[2]))
from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse
from harness.world import World, python_run

RELEASES = Path(__file__).parent / "releases"
LEASES_MAX = 60
Answer = Callable[[World, UUID], None]


def no_answers(world: World, job_id: UUID) -> None:
    """Only time passes."""


def yes_twice(world: World, job_id: UUID) -> None:
    """Two managers agree to less; messages come; the token is used."""
    for who in ("bob", "eve"):
        _decide(world, job_id, who, True, edited=b'{"amount":9}')
    for number, said in enumerate(("hello", {"again": True})):
        world.inbox.message(job_id, number, said, "chat")
    for token in list(world.gateway.tokens):
        world.gateway.complete(token, {"error": "no such account"})


def no(world: World, job_id: UUID) -> None:
    _decide(world, job_id, "bob", False)


def _decide(world: World, job_id: UUID, who: str, approved: bool, edited: bytes = b"") -> None:
    for (job, name), approval in list(world.gateway.approvals.items()):
        if job == job_id and approval.state.name == "PENDING" and approval.question.approver == "manager":
            world.gateway.decide(job_id, name, who, approved, roles=["manager"], edited=edited)


JOBS: dict[str, tuple[str, bytes, Answer]] = {
    "everything": ("everything", b'{"args":["o-1"]}', no_answers),
    "people": ("people", b"{}", yes_twice),
    "undone": ("undone", b'{"message":"o-2"}', no_answers),
    "insists": ("insists", b"{}", no),
    "caught": ("caught", b"{}", no),
}
# Jobs that are left where they wait, and a job that is cancelled there.
WAITING = "everything"
CANCELLED = "people"


async def main() -> None:
    folder = RELEASES / version("aetheris-sdk")
    if any(folder.glob(f"*{history.SUFFIX}")) and "--again" not in sys.argv:
        sys.exit(f"{folder.name} has its histories, and they stay as they are (ARGS=--again while it is not out)")
    agents = load_agents([str(folder / "shop.py")])
    for number, (name, (agent, given, answer)) in enumerate(JOBS.items(), 1):
        await _record(folder, name, number, agents[agent], given, answer)
    await _record_children(folder, agents)
    await _record(folder, "waiting", 101, agents[WAITING], JOBS[WAITING][1], no_answers, stop_at=2)
    await _record(folder, "cancelled", 102, agents[CANCELLED], JOBS[CANCELLED][1], yes_twice, cancel_at=3)


async def _record(
    folder: Path, name: str, number: int, agent: AgentDefinition[Any], given: bytes, answer: Answer, *,
    stop_at: int = LEASES_MAX, cancel_at: int = LEASES_MAX,
) -> None:  # fmt: skip
    world = World()
    world.signals = {"manager": b'{"said":"yes"}'}
    job_id = UUID(f"018f0000-0000-7000-8000-{number:012x}")
    for lease in range(1, stop_at + 1):
        _, _, services = world.process(Fuse(-1))
        assignment = world.assignment(agent, job_id, lease, given)
        run = python_run(assignment, agent, services)
        if lease == cancel_at:
            run.cancel("enough of it")
        outcome = await run.hold(assignment)
        await run.close()
        if not isinstance(outcome, ports.Parked):
            break
        answer(world, job_id)
        world.pass_time(job_id, outcome)
    _keep(folder, name, world, job_id)


async def _record_children(folder: Path, agents: Mapping[str, AgentDefinition[Any]]) -> None:
    cluster = ClusterSimulation([agents["family"], agents["kid"], agents["naughty"]])
    job_id = await cluster.submit(agents["family"], b"{}")
    await cluster.live(warm=False)
    _keep(folder, "family", cluster.world, job_id)
    for child in cluster.children(job_id)[:2]:
        _keep(folder, child.agent, cluster.world, child.id)


def _keep(folder: Path, name: str, world: World, job_id: UUID) -> None:
    kept = history.of_commits(job_id, world.commits(job_id))
    file = folder / f"{name}{history.SUFFIX}"
    file.write_text(history.dump(kept), "utf-8")
    sys.stdout.write(f"{file.name}: {len(kept.commits)} commits, {len(kept.events)} events\n")


if __name__ == "__main__":
    asyncio.run(main())
