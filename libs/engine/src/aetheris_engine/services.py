"""What every run of one runner shares."""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_kernel.clock import Clock

from aetheris_engine.ports import Children, Desk, Inbox, Journal, Witness


@dataclass(frozen=True, slots=True)
class Hands:
    journal: Journal
    inbox: Inbox
    clock: Clock
    runner_id: str
    witness: Witness
    desk: Desk
    children: Children
