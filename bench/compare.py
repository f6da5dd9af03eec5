"""Is this tree slower than another commit? Both builds in turn, pair by pair: `make bench BASE=<commit>`.

    pair 1: base, this · pair 2: this, base · pair 3: base, this · …

Each run is that build's own bench/throughput.py in a process, with a .venv of its own, so that the two may differ in
everything but the names of the cases. A ratio is taken within a pair, where both ran next to each other in time. The
processor seconds are those of all its processes, PostgreSQL's included, measured from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
PAIRS = 7
CPU_MOST, RATE_LEAST = 1.05, 0.95
RESAMPLES = 10_000
# No case has this in its name: the bench starts everything, warms up, and ends.
NO_CASE = "no such case"
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Measured:
    """One case of one run."""

    steps_per_s: float
    cpu_us_per_step: float


Run = Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Ratio:
    """This tree's figure over the base's: the median over all pairs, and an interval that holds it 9 times in 10."""

    median: float
    low: float
    high: float

    @property
    def includes_one(self) -> bool:
        return self.low <= 1.0 <= self.high

    def __str__(self) -> str:
        return f"{self.median:5.2f} ({self.low:.2f}–{self.high:.2f})"


def ratio(values: Sequence[float]) -> Ratio:
    """By bootstrap. The same values give the same interval."""
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Ratio(statistics.median(values), medians[RESAMPLES // 20], medians[-RESAMPLES // 20 - 1])


@dataclass(frozen=True, slots=True)
class Comparison:
    case: str
    cpu: Ratio
    rate: Ratio

    @property
    def ok(self) -> bool:
        cheap = self.cpu.median <= CPU_MOST or self.cpu.includes_one
        fast = self.rate.median >= RATE_LEAST or self.rate.includes_one
        return cheap and fast


def compared(pairs: Sequence[tuple[Run, Run]]) -> list[Comparison]:
    """Of (base, this), every case that both have."""
    cases = [case for case in pairs[0][0] if all(case in run for pair in pairs for run in pair)]
    return [
        Comparison(
            case,
            ratio([this[case].cpu_us_per_step / base[case].cpu_us_per_step for base, this in pairs]),
            ratio([this[case].steps_per_s / base[case].steps_per_s for base, this in pairs]),
        )
        for case in cases
    ]


class CpuMeter:
    """The processor seconds of a process, of all that it starts, and of the PostgreSQL whose data is in `folder`.

    A process that has ended counts with what it was last seen with.
    """

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self._folder = pid, folder
        self._seen: dict[tuple[int, float], float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def seconds(self) -> float:
        with self._lock:
            for process in self._processes():
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._seen[process.pid, process.create_time()] = times.user + times.system
            return sum(self._seen.values())

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.seconds()

    def _processes(self) -> Iterator[psutil.Process]:
        roots = [self._pid]
        for file in self._folder.rglob("postmaster.pid"):
            with suppress(OSError, ValueError, IndexError):
                # PostgreSQL in single-user mode, which prepares a new data directory, writes its pid negated.
                roots.append(abs(int(file.read_text().split()[0])))
        for pid in roots:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                yield process
                yield from process.children(recursive=True)


@dataclass(frozen=True, slots=True)
class Build:
    name: str
    folder: Path

    def run(self, options: Sequence[str]) -> Run:
        """Every case of one run of its bench."""
        # The first case also pays for the start and the warm-up, which a run without any case has alone.
        _, _, idle = self._bench([*options, "--only", NO_CASE])
        figures, cpu, _ = self._bench(options)
        before = [idle, *cpu]
        return {
            str(figure["case"]): Measured(figure["steps_per_s"], (cpu[place] - before[place]) / figure["steps"] * 1e6)
            for place, figure in enumerate(figures)
        }

    def _bench(self, options: Sequence[str]) -> tuple[list[dict[str, Any]], list[float], float]:
        """The figures, the processor seconds at the end of each case since the start, and those at the end."""
        with tempfile.TemporaryDirectory(prefix="aetheris-compare-") as made:
            folder, report = Path(made), Path(made) / "figures.json"
            python = str(self.folder / ".venv" / "bin" / "python")
            command = [python, "-u", "bench/throughput.py", *options, "--json", str(report)]
            environment = {**os.environ, "TMPDIR": made, "PYTHONPATH": ""}
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True)
            meter = CpuMeter(process.pid, folder)
            try:
                assert process.stdout is not None
                process.stdout.readline()  # the head of the table; every other line is a case that has just ended
                cpu = [meter.seconds() for _ in process.stdout]
                if process.wait() != 0:
                    raise SystemExit(f"the bench of {self.name} failed")
            finally:
                meter.stop()
                process.kill()
                process.wait()
            figures: list[dict[str, Any]] = json.loads(report.read_text())
        assert len(figures) == len(cpu), f"{self.name}: {len(cpu)} lines for {len(figures)} cases"
        return figures, cpu, meter.seconds()


@contextmanager
def checked_out(commit: str) -> Iterator[Build]:
    """That commit in a worktree of its own, with a .venv of its own."""
    with tempfile.TemporaryDirectory(prefix="aetheris-base-") as made:
        folder = Path(made) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            # What the bench needs came with `make setup` before there was a `make setup-dev`.
            makefile = (folder / "Makefile").read_text()
            target = "setup-dev" if "\nsetup-dev:" in makefile else "setup"
            subprocess.run(["make", "--silent", target], cwd=folder, check=True, stdout=sys.stderr)
            yield Build(f"base {commit}", folder)
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="the commit to compare this tree with")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often each build runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every run there as well")
    chosen = parser.parse_args()
    options = ["--quick"] if chosen.quick else []
    pairs: list[tuple[Run, Run]] = []
    with checked_out(chosen.base) as base:
        this = Build("this tree", ROOT)
        for number in range(chosen.pairs):
            runs = {build.name: build.run(options) for build in ((base, this) if number % 2 == 0 else (this, base))}
            pairs.append((runs[base.name], runs[this.name]))
            print(f"pair {number + 1} of {chosen.pairs}", file=sys.stderr, flush=True)
    found = compared(pairs)
    print(f"{'this tree over ' + base.name:<34} {'CPU per step':>20} {'rate':>20}")
    for line in found:
        print(f"{line.case:<34} {line.cpu!s:>20} {line.rate!s:>20}  {'ok' if line.ok else 'WORSE'}")
    if chosen.json:
        kept = [{name: asdict(figure) for name, figure in run.items()} for pair in pairs for run in pair]
        chosen.json.write_text(json.dumps(kept, indent=2) + "\n")
    return 0 if all(line.ok for line in found) else 1


if __name__ == "__main__":
    sys.exit(main())
