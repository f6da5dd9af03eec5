"""The connected runners and the agents that they offer. A module of its own, as each noun of the API has."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from aetheris_api.shape import Shape


class Runner(Shape):
    session_id: str
    runner_id: str
    agents: list[str]
    capacity: int
    held: int
    lease_until: datetime | None
    draining: bool
    versions: dict[str, str] = Field(default_factory=dict, description="The version of each agent, as far as named.")


class RunnerPage(Shape):
    runners: list[Runner]
    next_cursor: str | None


class Agent(Shape):
    id: str = Field(description='The agent\'s name; "*" for a runner that takes jobs of all agents.')
    runners: int
    capacity: int
    held: int


class AgentList(Shape):
    agents: list[Agent]


class Deployment(Shape):
    """A version of an agent that a runner offers or an open job was held by."""

    agent: str
    version: str = Field(description="Empty for jobs that no version has held, and for runners that name none.")
    runners: int
    open_jobs: int = Field(description="Open jobs that this version held last. Counting stops at 10,000.")
    wanted_by_jobs: int = Field(description="Of these, the jobs that only this version may hold.")


class DeploymentPage(Shape):
    deployments: list[Deployment]
    next_cursor: str | None = None
