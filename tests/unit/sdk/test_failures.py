"""Errors as they are recorded: under which name, and back."""

from __future__ import annotations

from aetheris import ChildCancelled
from aetheris.driving.failures import described, revived


def test_a_class_keeps_its_recorded_name_when_its_module_is_renamed():
    failure = described(ChildCancelled("no longer needed"))

    assert failure.type == "aetheris.children:ChildCancelled"
    assert isinstance(revived(failure), ChildCancelled)


def test_a_class_of_the_standard_library_comes_back_by_its_name():
    failure = described(ValueError("no"))

    assert (failure.type, type(revived(failure))) == ("ValueError", ValueError)
