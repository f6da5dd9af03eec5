"""Replay: an agent runs again over its record, and nothing in the process can execute a step or tool.

History ──► events ──► ReplayReader (a Context that only looks things up) ◄── the agent
                          └──► ReplayResult: the same, or the first place where the two part
"""

from aetheris.replay.driver import check, replay
from aetheris.replay.result import Frontier, Mismatch, ReplayOutcome, ReplayResult

__all__ = ["Frontier", "Mismatch", "ReplayOutcome", "ReplayResult", "check", "replay"]
