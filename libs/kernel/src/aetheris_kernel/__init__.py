"""What every package shares: refusals, ids, time. Standard library only."""
