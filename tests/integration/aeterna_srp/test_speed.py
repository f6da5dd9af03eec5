"""How fast it is, on whatever this runs on: the best of a few tries, because others use the machine too."""

import os
import sys
import time
from statistics import median

import pytest
from aeterna.srp import sealed
from aeterna.srp.broker import Happening
from aeterna.srp.state import pack

from tests.integration.aeterna_srp.stage import Stage


def hand_over(stage: Stage, back_and_forth: int, least: int = 0) -> tuple[list[float], list[float]]:
    """Seconds from prepare to ready, of those that moved `least` bytes, and from commit to ready."""
    whole, commit = [], []
    for turn in range(back_and_forth):
        old, new = (1, 2) if turn % 2 == 0 else (2, 1)
        stage.happened.clear()
        before = stage.broker.facts().get("state_bytes", 0)
        started = time.perf_counter()
        stage.broker.prepare(old, new)
        while stage.saw(Happening.INSTALLED) is None and stage.saw(Happening.PREPARED) is None:
            stage.loop.turn(1.0)
        committed = time.perf_counter()
        stage.broker.commit()
        while stage.saw(Happening.INSTALLED) is None:
            stage.loop.turn(1.0)
        stage.broker.release()
        while stage.saw(Happening.READY) is None:
            stage.loop.turn(1.0)
        ended = time.perf_counter()
        if stage.broker.facts()["state_bytes"] - before >= least:
            whole.append(ended - started)
        commit.append(ended - committed)
        stage.broker.settle()
    return whole, commit


def raw(size: int) -> float:
    """What the bare work takes right now: write it, and hash it once on each side."""
    packed = pack({"large": os.urandom(1024 * 1024) * (size // 1024 // 1024)})
    started = time.perf_counter()
    fd, digest = sealed.write(packed)
    sealed.verify(sealed.view(fd, packed.size), digest)
    ended = time.perf_counter()
    os.close(fd)
    return ended - started


def test_64_mib_with_their_checksum_take_at_most_200_ms(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that is busy with other things gets as much more as the bare work takes more."""
    stage.first("size=67108864")
    stage.commits = False
    stage.spawn(2)
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)

    tries = []
    for _ in range(4):
        whole, _ = hand_over(stage, 2, 64 * 1024 * 1024)
        tries += [(each, raw(64 * 1024 * 1024)) for each in whole]
        if any(each <= max(0.2, 1.5 * bare) for each, bare in tries):
            break
    best, bare = min(tries)

    with capsys.disabled():
        sys.stdout.write(f"\n  64 MiB: {best * 1000:.0f} ms, of which {bare * 1000:.0f} are bare work ")
    assert any(each <= max(0.2, 2 * bare) for each, bare in tries)


def test_commit_to_ready_takes_about_a_millisecond(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.first('state={"x": 1}')
    stage.commits = False
    stage.spawn(2)
    stage.until(lambda: stage.saw(Happening.JOINED, 2) is not None)

    _, commit = hand_over(stage, 100)

    commit.sort()
    with capsys.disabled():
        sys.stdout.write(f"\n  commit to ready: p50 {median(commit) * 1000:.2f} ms, p99 {commit[98] * 1000:.2f} ms ")
    assert median(commit) <= 0.005  # 1 ms on a machine that does nothing else
