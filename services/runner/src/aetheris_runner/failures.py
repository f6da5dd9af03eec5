"""Moved to aetheris.driving.failures."""

from aetheris.driving.failures import EXITS, described, revived

__all__ = ["EXITS", "described", "revived"]
