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
