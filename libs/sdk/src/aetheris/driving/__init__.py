"""Runs an agent for a settler: the same code in a runner, which executes, and in a replay, which only looks up."""
