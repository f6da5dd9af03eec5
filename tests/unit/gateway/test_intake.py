"""What may come in."""

from __future__ import annotations

import json

import pytest
from aetheris_gateway.core import intake
from aetheris_kernel.errors import Invalid


@pytest.mark.parametrize("raw", [b'{"a":[1,2.5,null,true,"\\u00e9"]}', b"0", b'""', b" [ ] ", '"💥"'.encode()])
def test_json_is_taken_as_it_is(raw):
    assert intake.raw_content(raw, "payload").raw == raw
    assert intake.load(raw, "payload") == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'"\xff"', "not UTF-8"),
        (b"NaN", "number"),
        (b"-Infinity", "number"),
        (b"1e999", "range"),
        (b"9" * 5000, "number"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00":1}', "surrogate"),
        (b'"\\u0000"', "NUL"),
        (b'{"a\\u0000":1}', "NUL"),
        (b"[" * 66 + b"]" * 66, "nested"),
        (b"[" * 10_000 + b"]" * 10_000, "nested"),
    ],
)
def test_json_that_a_later_reader_could_not_hold_is_refused(raw, reason):
    with pytest.raises(Invalid, match=reason) as refused:
        intake.load(raw, "payload")

    assert refused.value.facts == {"field": "payload"}


def test_64_levels_are_enough():
    deep = b"[" * 64 + b"]" * 64

    assert intake.raw_content(deep, "payload").raw == deep
    with pytest.raises(Invalid, match="nested"):
        intake.raw_content(b"[" + deep + b"]", "payload")


def test_nothing_is_null_and_a_payload_has_a_limit():
    assert intake.raw_content(b"", "payload").raw == b"null"
    assert len(intake.raw_content(b'"' + b"x" * (256 * 1024 - 2) + b'"', "payload").raw) == 256 * 1024
    with pytest.raises(Invalid, match="at most 262144"):
        intake.raw_content(b'"' + b"x" * (256 * 1024 - 1) + b'"', "payload")


@pytest.mark.parametrize("key", ["a", "order 42", "日本語", "'; DROP TABLE x; --", "<b>", "x" * 256])
def test_a_key_is_what_can_be_printed(key):
    assert intake.key(key, "correlation_key") == key


@pytest.mark.parametrize("key", ["", "x" * 257, "a\nb", "a\tb", "\0", "\x1b[31m", "\x7f", "a\u202eb", "\ud800"])
def test_a_key_is_nothing_else(key):
    with pytest.raises(Invalid) as refused:
        intake.key(key, "correlation_key")

    assert refused.value.facts == {"field": "correlation_key"}


def test_an_optional_key_may_be_missing():
    assert intake.key("", "idempotency_key", required=False) == ""


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "a\n"])
def test_a_name_is_plain(name):
    with pytest.raises(Invalid):
        intake.name(name, "agent")


def test_inputs_are_written_in_one_way():
    assert intake.message_input('say "hi"\n').raw == b'{"message":"say \\"hi\\"\\n"}'
    assert intake.raw_call_input(b'{"kwargs": {"a": 1.50}}').raw == b'{"args":[],"kwargs":{"a":1.5}}'
    with pytest.raises(Invalid, match="args is a list"):
        intake.raw_call_input(b'{"args": {}}')
    with pytest.raises(Invalid):
        intake.raw_call_input(b'{"message": "x"}')
    with pytest.raises(Invalid, match="empty"):
        intake.message_input("")


@pytest.mark.parametrize("header", ["", "rubbish", "00-0-0-01", "00-" + "a" * 32 + "-" + "b" * 16 + "-01\n"])
def test_a_malformed_trace_context_is_ignored(header):
    assert intake.traceparent(header) == ""
