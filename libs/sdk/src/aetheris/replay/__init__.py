"""Replay: an agent driven again over its record, with nobody there who could execute anything.

History ──► events ──► Reader (a Context that only looks things up) ◄── the agent
                          └──► Verdict: the same, or the first place where the two part
"""

from aetheris.replay.driver import check, replay
from aetheris.replay.verdict import Frontier, Mismatch, Outcome, Verdict

__all__ = ["Frontier", "Mismatch", "Outcome", "Verdict", "check", "replay"]
