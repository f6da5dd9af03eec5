"""Code that holds the interpreter's lock, in a process of its own: its job is named without the interpreter."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from aetheris_runner.job_frames import enter_job, task_factory
from aetheris_runner.stall import left_behind

JOB, BYSTANDER = UUID(int=1 << 100), UUID(int=2 << 100)

SCRIPT = """
import asyncio, ctypes, sys
from pathlib import Path
from uuid import UUID
from aetheris_runner.job_frames import enter_job, task_factory
from aetheris_runner.stall import StallWatch, left_behind

hold = ctypes.PyDLL(None).usleep
watch = StallWatch(Path(sys.argv[1]), stalled_max_s=float(sys.argv[2]))
watch.begin("session-1")

async def waits():
    await asyncio.Event().wait()

async def holds():
    hold(int(float(sys.argv[3]) * 1_000_000))

async def of(job, code):
    enter_job(job)
    await asyncio.create_task(code)

async def main():
    asyncio.get_running_loop().set_task_factory(task_factory)
    waiting = asyncio.create_task(of(UUID(sys.argv[5]), waits()))
    await asyncio.sleep(0)
    watch.set_again(1.0)
    await of(UUID(sys.argv[4]), holds())
    # This process lives, so no other one takes its file.
    print(len(list(left_behind(Path(sys.argv[1])))))
    stall = watch.take()
    print(stall.session_id, *stall.job_ids)
    waiting.cancel()

asyncio.run(main())
watch.close()
"""


def run(folder: Path, stalled_max_s: float, held_s: float) -> subprocess.CompletedProcess[str]:
    arguments = [str(folder), str(stalled_max_s), str(held_s), str(JOB), str(BYSTANDER)]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.timeout(90)
def test_b1_a_process_that_comes_back_knows_which_job_held_the_lock(tmp_path: Path):
    ended = run(tmp_path, 60, 2.5)

    assert ended.stdout.split() == ["0", "session-1", str(JOB)], ended.stderr
    assert list(left_behind(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(90)
def test_b1_a_process_that_does_not_come_back_is_ended_and_the_next_one_knows_the_job(tmp_path: Path):
    ended = run(tmp_path, 3, 50)
    (stall,) = left_behind(tmp_path)

    assert ended.returncode == -signal.SIGALRM
    assert (stall.session_id, stall.job_ids) == ("session-1", [JOB])
    assert "in holds" in stall.trace
    assert list(left_behind(tmp_path)) == []


def test_files_that_are_no_stacks_are_left_out(tmp_path: Path):
    (tmp_path / "aetheris-stalled-empty").write_text("")
    (tmp_path / "aetheris-stalled-quiet").write_text("session s\n")
    (tmp_path / "aetheris-stalled-link").symlink_to("/etc/passwd")

    assert list(left_behind(tmp_path)) == []


async def test_a_task_of_a_job_that_is_cancelled_before_its_first_turn_leaves_no_warning():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(task_factory)  # type: ignore[arg-type]

    async def never() -> None: ...

    async def starts_and_cancels() -> asyncio.Task[None]:
        enter_job(JOB)
        task = asyncio.create_task(never())
        task.cancel()
        await asyncio.wait([task])
        return task

    task = await asyncio.create_task(starts_and_cancels())
    loop.set_task_factory(None)

    assert task.cancelled()
