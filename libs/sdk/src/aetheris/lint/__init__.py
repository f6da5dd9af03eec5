"""Finds in the source the calls that the guard refuses at run time, and some that the guard cannot see."""

from aetheris.lint.file import FileUnreadable, Finding, lint_file, lint_text

__all__ = ["FileUnreadable", "Finding", "lint_file", "lint_text"]
