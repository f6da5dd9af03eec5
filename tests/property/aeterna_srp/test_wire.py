"""Frames, messages and state: decoding gives back what was encoded, and other input is refused without using memory."""

import contextlib
import json
import struct
import tracemalloc
from typing import Any

import pytest
from aeterna.srp.broker.flow import Flow
from aeterna.srp.wire.frames import HEADER, MAGIC, PAYLOAD_MAX, V1_TYPES, V2_TYPES, FrameReader, SrpFrame, Type, encode
from aeterna.srp.wire.messages import (
    AbortMessage,
    ChunkMessage,
    ColdMessage,
    CommitMessage,
    ConnectionsMessage,
    DeltaMessage,
    DoneMessage,
    EndMessage,
    ErrorMessage,
    HelloMessage,
    InstalledMessage,
    ListenersMessage,
    Message,
    OfferMessage,
    PartMessage,
    PreparedMessage,
    PrepareMessage,
    ReadyMessage,
    ReleaseMessage,
    ResumeMessage,
    WelcomeMessage,
    from_frame,
    to_frame,
)  # fmt: skip
from aeterna.srp.wire.state import State, apply_delta, encode_delta, pack
from aeterna.table.reasons import Breach, Reason
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.integers(0, 2**53 - 1)
texts = st.text(max_size=50)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
states = st.dictionaries(texts, values | st.binary(max_size=200), max_size=8)
frames = st.one_of(
    st.builds(SrpFrame, st.sampled_from(sorted(V2_TYPES)), st.binary(max_size=500), st.integers(0, 200), st.just(2)),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(HelloMessage, texts, texts, numbers, st.booleans()),
    st.builds(WelcomeMessage, numbers, st.booleans(), numbers, numbers),
    st.builds(PrepareMessage, numbers, texts, numbers, numbers, numbers, st.booleans(), st.booleans()),
    st.builds(OfferMessage, numbers, texts, numbers, st.booleans()),
    st.builds(PartMessage, numbers, st.integers(100, 2**40), st.integers(0, 100), st.just("a1" * 32), st.booleans()),
    st.builds(ChunkMessage, st.binary(min_size=1, max_size=500)),
    st.builds(DeltaMessage, st.binary(min_size=1, max_size=500)),
    st.builds(ConnectionsMessage, numbers, st.lists(st.dictionaries(texts, values, max_size=3), max_size=3)),
    st.builds(EndMessage, numbers, numbers, numbers),
    st.one_of(
        *(
            st.builds(kind, numbers)
            for kind in (PreparedMessage, CommitMessage, InstalledMessage, ReleaseMessage, ReadyMessage, DoneMessage)
        )
    ),
    st.builds(AbortMessage, numbers, texts, texts),
    st.builds(ResumeMessage, numbers, st.booleans(), st.booleans()),
    st.builds(ColdMessage, numbers, texts, st.booleans()),
    st.builds(ErrorMessage, numbers, texts, texts),
    st.builds(ListenersMessage, st.lists(texts, max_size=3)),
)


def fds_of(message: Message) -> int:
    match message:
        case ConnectionsMessage(items=each) | ListenersMessage(names=each):
            return len(each)
        case PartMessage(memfd=True):
            return 1
    return 0


def test_the_example_of_the_page() -> None:
    assert encode(SrpFrame(Type.HELLO, b"{}")).hex(" ") == "00 00 00 0a ae 7e 20 24 02 01 00 00 7b 7d"


@given(st.lists(frames, max_size=6), st.data())
def test_frames_survive_every_cut(sent: list[SrpFrame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    reader = FrameReader()
    got = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        reader.feed(stream[at : at + step])
        got += list(reader.frames())
        at += step

    assert got == sent
    assert reader.held == b""


@given(st.sampled_from(sorted(V1_TYPES)), st.binary(max_size=100), st.integers(0, 65535))
def test_version_1_frames_ignore_the_reserved_field(kind: Type, payload: bytes, reserved: int) -> None:
    reader = FrameReader(version=1)
    reader.feed(HEADER.pack(8 + len(payload), MAGIC, 1, kind, reserved) + payload)

    assert reader.next() == SrpFrame(kind, payload, 0, 1)


@given(messages)
def test_messages_survive_the_wire(message: Message) -> None:
    assert from_frame(to_frame(message, fds_of(message))) == message


@given(messages, st.integers(0, 200))
def test_descriptors_belong_to_few_messages(message: Message, count: int) -> None:
    allowed = {fds_of(message)} | ({0, 1} if isinstance(message, PrepareMessage | CommitMessage) else set())
    frame = to_frame(message, count)
    if count in allowed:
        assert from_frame(frame) == message
    else:
        with pytest.raises(Breach):
            from_frame(frame)


@settings(max_examples=400)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_incomplete(noise: bytes) -> None:
    reader = FrameReader()
    reader.feed(noise)
    with contextlib.suppress(Breach):
        for frame in reader.frames():
            from_frame(frame)


@settings(max_examples=400)
@given(st.sampled_from(sorted(V2_TYPES)), st.binary(max_size=200) | values.map(lambda v: json.dumps(v).encode()))
def test_any_payload_is_a_message_or_a_breach(kind: Type, payload: bytes) -> None:
    with contextlib.suppress(Breach):
        from_frame(SrpFrame(kind, payload))


@given(messages, st.data())
def test_a_flipped_bit_never_escapes_the_codec(message: Message, data: st.DataObject) -> None:
    stream = bytearray(encode(to_frame(message, fds_of(message))))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    reader = FrameReader()
    reader.feed(stream)
    with contextlib.suppress(Breach):
        while (frame := reader.next()) is not None:
            from_frame(frame)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ((8, MAGIC + 1, 2, 1, 0), Reason.PROTOCOL),
        ((8, MAGIC, 1, 1, 0), Reason.PROTOCOL),
        ((8, MAGIC, 2, 0x99, 0), Reason.PROTOCOL),
        ((7, MAGIC, 2, 1, 0), Reason.PROTOCOL),
        ((8 + PAYLOAD_MAX + 1, MAGIC, 2, 1, 0), Reason.OVERSIZED),
        ((8, MAGIC, 2, 1, 201), Reason.PROTOCOL),
    ],
)
def test_a_bad_header_is_final(header: tuple[int, ...], reason: Reason) -> None:
    reader = FrameReader()
    reader.feed(struct.pack(">IIBBH", *header))
    with pytest.raises(Breach) as refused:
        reader.next()
    assert refused.value.reason is reason

    reader.feed(encode(SrpFrame(Type.HELLO, b"{}")))
    with pytest.raises(Breach):
        reader.next()


def test_a_length_reserves_nothing() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        reader.feed(struct.pack(">IIBBH", 8 + PAYLOAD_MAX, MAGIC, 2, Type.CHUNK, 0))
        assert reader.next() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10_000


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"token": NaN}', b'{"token": 1}', b"{}", b"1" * 5000, b'{"token":"\\ud800"}']
)
def test_hostile_json_is_a_breach(payload: bytes) -> None:
    with pytest.raises(Breach):
        from_frame(SrpFrame(Type.HELLO, payload))


# --- state


def joined(state: dict[str, Any], drop: tuple[str, ...] = ()) -> tuple[bytes, int]:
    packed = pack(state, drop)
    return b"".join(bytes(piece) for piece in packed.pieces()), len(packed.manifest)


@given(states)
def test_state_survives(state: dict[str, Any]) -> None:
    got = State()
    got.add(*joined(state))

    assert dict(got) == state


@given(states, states, st.lists(texts, max_size=4))
def test_a_later_part_is_a_delta(first: dict[str, Any], second: dict[str, Any], drop: list[str]) -> None:
    got = State()
    got.add(*joined(first))
    apply_delta(got, encode_delta(pack(second, drop)))

    assert dict(got) == {key: value for key, value in first.items() if key not in drop} | second


def test_a_value_is_decoded_when_it_is_read() -> None:
    got = State()
    got.add(*joined({"a": {"x": 1}, "b": [2], "c": b"bytes"}))
    assert "0 decoded" in repr(got)
    assert "a" in got

    assert got["b"] == [2]
    assert "1 decoded" in repr(got)
    assert got.buffer("c").tobytes() == b"bytes"
    assert got.buffer("c").readonly


@settings(max_examples=400)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_random_bytes_are_no_state(noise: bytes, manifest: int) -> None:
    got = State()
    with contextlib.suppress(Breach):
        got.add(noise, manifest)
        with contextlib.suppress(Breach):
            dict(got)


@given(states, st.data())
def test_a_part_that_is_refused_changes_nothing(state: dict[str, Any], data: st.DataObject) -> None:
    part, manifest = joined(state)
    broken = bytearray(part)
    broken[data.draw(st.integers(0, manifest - 1))] ^= 1 << data.draw(st.integers(0, 7))
    got = State()
    got.add(*joined({"before": 1}))
    try:
        got.add(bytes(broken), manifest)
    except Breach:
        assert dict(got) == {"before": 1}


def test_a_value_that_is_neither_json_nor_bytes_cannot_be_packed() -> None:
    with pytest.raises(TypeError):
        pack({"x": object()})


# --- the checks of the broker


@given(st.lists(st.integers(0, 3000), max_size=10), st.integers(0, 10_000))
def test_the_budget_is_exact(sizes: list[int], budget: int) -> None:
    flow = Flow(1, budget)
    flow.check(OfferMessage(1), 0)
    passed = 0
    with contextlib.suppress(Breach):
        for size in sizes:
            flow.check(PartMessage(1, size, 0, "0" * 64), 0)
            for at in range(0, size, 1000):
                flow.check(ChunkMessage(b"x" * min(1000, size - at)), 0)
            passed += size

    assert passed <= budget
    assert (passed == sum(sizes)) == (sum(sizes) <= budget)


def test_nothing_passes_before_an_offer_or_after_the_end() -> None:
    for message in (PartMessage(1, 1, 0, "0" * 64), ChunkMessage(b"x"), ConnectionsMessage(1, []), EndMessage(1, 0, 0)):
        with pytest.raises(Breach):
            Flow(1, 100).check(message, 0)
    flow = Flow(1, 100)
    flow.check(OfferMessage(1), 0)
    flow.check(EndMessage(1, 0, 0), 0)
    with pytest.raises(Breach):
        flow.check(PartMessage(1, 1, 0, "0" * 64), 0)


@pytest.mark.parametrize(("parts", "connections"), [(0, 0), (2, 0), (1, 1)])
def test_an_end_that_does_not_add_up_is_truncated(parts: int, connections: int) -> None:
    flow = Flow(1, 100)
    flow.check(OfferMessage(1), 0)
    flow.check(PartMessage(1, 0, 0, "0" * 64), 0)

    with pytest.raises(Breach) as refused:
        flow.check(EndMessage(1, parts, connections), 0)
    assert refused.value.reason is Reason.TRUNCATED


def test_a_part_that_is_not_complete_is_truncated() -> None:
    flow = Flow(1, 100)
    flow.check(OfferMessage(1), 0)
    flow.check(PartMessage(1, 10, 0, "0" * 64), 0)

    with pytest.raises(Breach) as refused:
        flow.check(EndMessage(1, 1, 0), 0)
    assert refused.value.reason is Reason.TRUNCATED
