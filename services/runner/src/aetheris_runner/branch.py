"""Moved to aetheris.driving.branch."""

from aetheris.driving.branch import Branch, current_branch

__all__ = ["Branch", "current_branch"]
