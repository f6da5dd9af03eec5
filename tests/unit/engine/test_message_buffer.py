"""MessageBuffer: in order, once, and no more in memory than is stated."""

from __future__ import annotations

import random
from sys import getsizeof

import pytest
from aetheris_engine.core.message_buffer import HELD_BYTES_MAX, HELD_ENTRIES_MAX, MessageBuffer
from aetheris_engine.core.waits import EntryKind, InboxEntry


def message(number: int, channel: str = "a", payload: bytes = b"1") -> InboxEntry:
    return InboxEntry(f"n{number}", channel, payload, "ann", EntryKind.MESSAGE)


class Reader:
    """An inbox of messages, read into a `MessageBuffer` as a job does."""

    def __init__(self, notes: list[InboxEntry]) -> None:
        self.mail: MessageBuffer[InboxEntry] = MessageBuffer()
        self.notes = notes
        self.read = 0

    def read_on(self, wanted: list[str], count: int) -> None:
        for place in range(self.read, min(self.read + count, len(self.notes))):
            self.mail.put(self.notes[place], self.notes[place - 1].entry_id if place else "", wanted)
        self.read = min(self.read + count, len(self.notes))

    def next(self, channel: str) -> InboxEntry | None:
        note = self.mail.take(channel)
        if note is None and self.mail.missing([channel]):
            after = self.mail.reread(channel)
            begin = 1 + next((i for i, known in enumerate(self.notes) if known.entry_id == after), -1)
            for place in range(begin, len(self.notes)):
                if self.notes[place].name == channel:
                    self.mail.put_again(self.notes[place], self.notes[place - 1].entry_id if place else "", [channel])
            note = self.mail.take(channel)
        return note


def test_messages_of_a_channel_are_taken_in_order_and_once():
    reader = Reader([message(number) for number in range(5)])
    reader.read_on(["a"], 5)

    assert [reader.mail.take("a") for _ in range(6)] == [*reader.notes, None]


def test_a_message_that_is_offered_again_is_not_kept_again():
    mail: MessageBuffer[InboxEntry] = MessageBuffer()
    mail.put(message(1), "", ["a"])
    mail.put(message(1), "", ["a"])
    first = mail.take("a")
    mail.put(message(1), "", ["a"])

    assert (first, mail.take("a")) == (message(1), None)


@pytest.mark.parametrize("size", [1, 64 * 1024])
def test_what_is_kept_is_bounded_and_what_was_not_is_read_again(size: int):
    count = 3 * HELD_ENTRIES_MAX
    reader = Reader([message(number, payload=b"x" * size) for number in range(count)])
    reader.read_on(["a"], count)

    kept = 0
    while reader.mail.take("a") is not None:
        kept += 1

    assert kept == min(HELD_ENTRIES_MAX, HELD_BYTES_MAX // size)
    assert [reader.next("a") for _ in range(count - kept + 1)] == [*reader.notes[kept:], None]


def test_a_channel_that_is_waited_on_pushes_others_out_and_they_are_read_again():
    notes = [message(number, "noise") for number in range(HELD_ENTRIES_MAX)] + [message(9_999, "a")]
    reader = Reader(notes)
    reader.read_on(["a"], len(notes))

    assert reader.mail.take("a") == notes[-1]
    assert [reader.next("noise") for _ in notes] == [*notes[:-1], None]


def test_a_full_mailbox_still_takes_the_first_message_of_a_channel_that_is_waited_on():
    mail: MessageBuffer[InboxEntry] = MessageBuffer()
    for number in range(HELD_ENTRIES_MAX):
        mail.put(message(number, "b"), "", ["a", "b"])
    mail.put(message(9_999, "a"), f"n{HELD_ENTRIES_MAX - 1}", ["a", "b"])

    assert mail.take("a") == message(9_999, "a")


@pytest.mark.parametrize("seed", range(20))
def test_every_channel_keeps_its_order_and_loses_nothing_in_any_order_of_reads(
    seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("aetheris_engine.core.message_buffer.HELD_ENTRIES_MAX", 3)
    draw = random.Random(seed)
    channels = ["a", "b", "c"]
    reader = Reader([message(number, draw.choice(channels)) for number in range(60)])
    got: dict[str, list[InboxEntry]] = {channel: [] for channel in channels}
    while reader.read < len(reader.notes) or draw.random() < 0.99:
        channel = draw.choice(channels)
        if draw.random() < 0.5:
            reader.read_on([channel], draw.randint(1, 5))
        elif (note := reader.next(channel)) is not None:
            got[channel].append(note)
    for channel in channels:
        while (note := reader.next(channel)) is not None:
            got[channel].append(note)

    assert got == {channel: [note for note in reader.notes if note.name == channel] for channel in channels}


def test_b7_nothing_is_remembered_of_messages_that_were_taken():
    """A chat that has received a thousand messages needs no more memory than one that has received ten."""
    mail: MessageBuffer[InboxEntry] = MessageBuffer()
    sizes = []
    for number in range(1_000):
        mail.put(message(1_000 + number), f"n{999 + number}", ["a"])
        assert mail.take("a") == message(1_000 + number)
        if number in (9, 999):
            sizes.append(sum(getsizeof(kept) for kept in vars(mail).values()))

    assert sizes[0] == sizes[1]


def test_a_message_that_was_given_back_is_never_dropped():
    mail: MessageBuffer[InboxEntry] = MessageBuffer()
    mail.put(message(0), "", ["a"])
    taken = mail.take("a")
    assert taken is not None
    mail.put_back(taken)
    for number in range(1, 2 * HELD_ENTRIES_MAX):
        mail.put(message(number, "b"), f"n{number - 1}", ["b"])

    assert mail.take("a") == taken
    assert mail.missing(["a"]) == []


def test_a_message_that_is_read_again_behind_the_gap_is_not_kept_again():
    mail: MessageBuffer[InboxEntry] = MessageBuffer()
    mail.put(message(1), "", ["a"])
    first = mail.take("a")
    mail.put_again(message(1), "", ["a"])

    assert (first, mail.take("a")) == (message(1), None)
