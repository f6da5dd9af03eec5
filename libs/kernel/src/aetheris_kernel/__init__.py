"""The words every part shares: refusals, ids, time. Standard library only."""
