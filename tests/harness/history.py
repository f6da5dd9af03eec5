"""What clients and the provider saw in a chaos run, and what the services recorded. `invariants` compares the two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aetheris_journal import events as e


@dataclass(frozen=True, slots=True)
class Submission:
    """One idempotency key, every answer that came to it, and how its job must end."""

    key: str
    agent: str
    job_ids: tuple[str, ...]
    state: str = "completed"
    # What the agent returns; None where the test does not know it beforehand.
    result: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    at: float
    note_id: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """One correlation key of one job, with the answers to all attempts to send it."""

    job_id: str
    key: str
    payload: Any
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Link:
    seq: int
    lease: int
    at: float
    events: tuple[e.Event, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    links: tuple[Link, ...]
    # What the ledger's verification reports; empty if the chain is intact.
    problem: str = ""

    def __iter__(self) -> Iterator[tuple[Link, e.Event]]:
        return ((link, event) for link in self.links for event in link.events)

    @property
    def events(self) -> list[e.Event]:
        return [event for _, event in self]

    @property
    def end(self) -> e.Event | None:
        return next((event for event in reversed(self.events) if isinstance(event, e.TERMINAL)), None)


@dataclass(frozen=True, slots=True)
class Row:
    """A job as the scheduler knows it."""

    state: str
    key: str = ""
    result: bytes = b""
    why: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Calls:
    """What the provider counted under one key."""

    times: tuple[float, ...]
    applied: int
    refused: int = 0


@dataclass(frozen=True)
class History:
    submissions: Sequence[Submission] = ()
    signals: Sequence[Signal] = ()
    chains: Mapping[str, Chain] = field(default_factory=dict)
    rows: Mapping[str, Row] = field(default_factory=dict)
    calls: Mapping[str, Calls] = field(default_factory=dict)
    # Tools that may be called again under the same key.
    idempotent: frozenset[str] = frozenset()

    @cached_property
    def effects(self) -> Mapping[str, Sequence[tuple[str, Link, e.Event]]]:
        """By key: the events of every chain about it, in order."""
        found: dict[str, list[tuple[str, Link, e.Event]]] = defaultdict(list)
        for job_id, chain in self.chains.items():
            for link, event in chain:
                if isinstance(event, EFFECT):
                    found[event.key].append((job_id, link, event))
        return found


EFFECT = (e.EffectStarted, e.EffectCommitted, e.EffectFailed, e.EffectInDoubt, e.EffectResolved)
