"""Runs one job: commands in, commits out."""
