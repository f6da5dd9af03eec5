"""Parked jobs that stay in memory, within a stated number of jobs and of bytes.

A job that is woken goes on where it stood if it is still here; otherwise it is rebuilt from its record. So any of them
may be let go at any time, and the one that parked first goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from aetheris_engine.job import Run

WARM_BYTES_MAX = 512 * 1024 * 1024

# What a parked job costs without its data: tasks, coroutines, the engine's objects.
_JOB_BYTES = 16 * 1024
# A value in memory is larger than its JSON: a dict of short strings takes about four times as much.
_OBJECTS_PER_BYTE = 4


class WarmJobs:
    def __init__(self, jobs_max: int, bytes_max: int) -> None:
        self._jobs_max, self._bytes_max = jobs_max, bytes_max
        self._jobs: OrderedDict[UUID, tuple[Run, int]] = OrderedDict()
        # An estimate: nothing tells how much memory an agent's own objects take.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: UUID) -> Run | None:
        found = self._jobs.get(job_id)
        return None if found is None else found[0]

    def keep(self, run: Run) -> list[Run]:
        """Keep a parked job. Returns the jobs that are let go for it; a job that is too large for all of the room is
        one of them itself."""
        self.pop(run.job_id)
        size = _JOB_BYTES + _OBJECTS_PER_BYTE * run.recorded_bytes
        self._jobs[run.job_id] = run, size
        self.bytes += size
        gone = []
        while len(self._jobs) > self._jobs_max or (self.bytes > self._bytes_max and self._jobs):
            _, (oldest, freed) = self._jobs.popitem(last=False)
            self.bytes -= freed
            gone.append(oldest)
        return gone

    def pop(self, job_id: UUID) -> Run | None:
        found = self._jobs.pop(job_id, None)
        if found is None:
            return None
        self.bytes -= found[1]
        return found[0]

    def clear(self) -> list[Run]:
        """Let all go. Returns them."""
        gone = [run for run, _ in self._jobs.values()]
        self._jobs.clear()
        self.bytes = 0
        return gone
