"""Finds at rest what the guard refuses at run time, and what nobody can see at run time."""

from aetheris.lint.file import FileUnreadable, Finding, lint_file, lint_text

__all__ = ["FileUnreadable", "Finding", "lint_file", "lint_text"]
