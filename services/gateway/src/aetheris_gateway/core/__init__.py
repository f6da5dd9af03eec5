"""Decisions and views that never await."""
