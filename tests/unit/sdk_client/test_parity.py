"""The two clients are one API."""

from __future__ import annotations

import inspect

import aetheris.client
from aetheris.client import AsyncClient, Client


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(found)
        for name, found in vars(kind).items()
        if not name.startswith("_") and callable(found)
    }


def test_every_call_is_in_both_with_the_same_arguments():
    plain, awaited = public(Client), public(AsyncClient)

    assert set(plain) == set(awaited)
    for name, signature in plain.items():
        assert list(signature.parameters.values()) == list(awaited[name].parameters.values()), name
        assert str(awaited[name].return_annotation).removeprefix("Async") == str(signature.return_annotation), name


def test_every_call_of_the_one_is_awaited_in_the_other():
    for name in public(Client):
        found = getattr(AsyncClient, name)

        assert inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found), name
        assert inspect.isgeneratorfunction(getattr(Client, name)) == inspect.isasyncgenfunction(found), name


def test_what_is_said_to_be_there_is_there():
    assert all(hasattr(aetheris.client, name) for name in aetheris.client.__all__)
