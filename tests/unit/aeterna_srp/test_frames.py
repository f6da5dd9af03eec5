"""WebSocket frames: reading does not depend on where the bytes are cut; a breach of RFC 6455 has its close code."""

import os
import struct
from itertools import pairwise

import pytest
from aeterna.asgi import frames
from aeterna.asgi.frames import Frames, Op, Violation
from hypothesis import given, settings
from hypothesis import strategies as st


def masked(first: int, payload: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=5))
@settings(max_examples=50)
def test_frames_cut_anywhere_are_the_same(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(masked(0x82, payload) for payload in payloads)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = Frames(payload_max=1024)

    found = [frame for a, b in pairwise(edges) for frame in reader.feed(stream[a:b])]

    assert [frame.payload for frame in found] == payloads
    assert b"".join(frame.raw for frame in found) == stream
    assert not reader.rest


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_every_way_to_write_a_length(size: int) -> None:
    payload = os.urandom(size)

    (frame,) = Frames(payload_max=1 << 20).feed(masked(0x82, payload))

    assert frame.payload == payload
    assert frames.encode(Op.BINARY, payload).endswith(payload)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01a", 1002),  # not masked
        (masked(0xC1, b"a"), 1002),  # the bit of an extension that was not negotiated
        (masked(0x83, b"a"), 1002),  # no such opcode
        (masked(0x09, b"a"), 1002),  # a control frame in fragments
        (masked(0x89, b"a" * 126), 1002),  # a long control frame
        (masked(0x82, b"a" * 2000), 1009),
    ],
)
def test_a_breach_of_the_protocol_has_a_close_code(data: bytes, code: int) -> None:
    with pytest.raises(Violation) as told:
        list(Frames(payload_max=1024).feed(data))

    assert told.value.code == code


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xed", b"\x00\x01", b"\x03\xe8\xff"])
def test_an_invalid_close_is_refused(payload: bytes) -> None:
    with pytest.raises(Violation):
        frames.closing(payload)


def test_the_key_of_the_standard() -> None:
    assert frames.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
