"""The event loop of PID 1."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Iterator

import pytest
from aeterna.supervisor.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    before = signal.getsignal(signal.SIGUSR1)
    loop = Loop()
    yield loop
    loop.close()
    signal.signal(signal.SIGUSR1, before)


def test_timers_fire_in_their_order(loop: Loop) -> None:
    fired: list[int] = []
    for delay in (3, 1, 2):
        loop.call_later(delay / 100, lambda delay=delay: fired.append(delay))  # type: ignore[misc]
    loop.call_later(0.01, lambda: fired.append(0)).cancel()
    loop.call_later(0.05, loop.stop)
    loop.run()

    assert fired == [1, 2, 3]


def test_a_cancelled_timer_frees_its_callback(loop: Loop) -> None:
    class Held:
        def call(self) -> None: ...

    held = Held()
    seen = weakref.ref(held)
    loop.call_later(3600, held.call).cancel()
    del held
    gc.collect()

    assert seen() is None


def test_an_error_in_a_callback_does_not_end_the_loop(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.call_later(0.0, lambda: 1 / 0)  # type: ignore[arg-type]
    loop.call_later(0.01, loop.stop)
    loop.run()

    assert "ZeroDivisionError" in capsys.readouterr().err


def test_descriptors_and_signals_wake_it(loop: Loop) -> None:
    heard: list[object] = []
    read, write = os.pipe()
    loop.add_reader(read, lambda: (heard.append(os.read(read, 9)), os.kill(os.getpid(), signal.SIGUSR1)))  # type: ignore[arg-type, func-returns-value]
    loop.on_signals({signal.SIGUSR1}, lambda number: (heard.append(number), loop.stop()))  # type: ignore[arg-type, func-returns-value]
    loop.add_writer(write, lambda: (os.write(write, b"x"), loop.remove_writer(write)))  # type: ignore[arg-type, func-returns-value]
    loop.run()
    loop.remove_reader(read)
    os.close(read)
    os.close(write)

    assert heard == [b"x", signal.SIGUSR1]
