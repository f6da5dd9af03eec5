"""The report of a chaos run: its faults, how much there was to check, and each invariant with its violations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles

from aetheris_journal import events as e

from harness.faults import Fault, Kind, described
from harness.history import EFFECT, Chain, History, Link
from harness.invariants import RULES, Violation, check

# How many violations of an invariant are shown; the file has all.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Recovery:
    """The time from a fault to the next commit of each job that it interrupted."""

    fault: str
    jobs: int
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    duration_s: float
    settled_s: float
    checked: Mapping[str, int]
    faults: Mapping[str, int]
    skipped: Sequence[str]
    recoveries: Sequence[Recovery]
    verdicts: Mapping[str, int]
    breaks: Sequence[str]

    @property
    def good(self) -> bool:
        return not self.breaks

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "faults_made": sum(self.faults.values()), "good": self.good}, indent=2)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"chaos: seed {self.seed}, {self.duration_s:.0f} s under load, settled {self.settled_s:.1f} s after"
        yield "  " + " · ".join(f"{count:,} {what}" for what, count in self.checked.items())
        yield f"  {sum(self.faults.values())} faults"
        yield from (f"    {count:4} {name}" for name, count in self.faults.items())
        yield from (f"         not made: {reason}" for reason in self.skipped)
        yield "  from a fault to the next commit of a job it interrupted"
        for recovery in self.recoveries:
            figures = f"p50 {recovery.p50_s:6.2f} s   p99 {recovery.p99_s:6.2f} s"
            yield f"    {figures}   {recovery.fault} ({recovery.jobs} jobs)"
        yield "  invariants"
        yield from (
            f"    {'BROKEN ' + str(broken) if broken else 'kept'}: {rule}" for rule, broken in self.verdicts.items()
        )
        yield from (f"      {text}" for text in self.breaks[:_SHOWN])
        if len(self.breaks) > _SHOWN:
            yield f"      … and {len(self.breaks) - _SHOWN} more"


def reported(
    history: History,
    faults: Sequence[Fault],
    *,
    seed: int,
    duration_s: float,
    settled_s: float,
    skipped: Sequence[str] = (),
    seen: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """`seen` are invariants of which the history knows nothing, each with what was seen to break it."""
    breaks = check(history)
    others = seen or {}
    breaks += [Violation(rule, "seen", text) for rule, texts in others.items() for text in texts]
    verdicts = Counter(dict.fromkeys([*RULES, *others], 0))
    verdicts.update(found.rule for found in breaks)
    return Report(
        seed=seed,
        duration_s=duration_s,
        settled_s=settled_s,
        checked=tally(history),
        faults=dict(described(faults)),
        skipped=skipped,
        recoveries=list(recoveries(history, faults)),
        verdicts=dict(verdicts),
        breaks=[str(found) for found in breaks],
    )


def tally(history: History) -> dict[str, int]:
    """How much there was to check: an invariant about nothing always holds."""
    events = [event for chain in history.chains.values() for event in chain.events]
    kinds = Counter(type(event) for event in events)
    said_again = sum(len(signal.answers) - 1 for signal in history.signals)
    again = sum(max(calls.applied - 1, 0) for calls in history.calls.values())
    return {
        "jobs": len(history.rows),
        "commits": sum(len(chain.links) for chain in history.chains.values()),
        "leases": kinds[e.JobLeased],
        "effects": len(history.effects),
        "calls": sum(len(calls.times) for calls in history.calls.values()),
        "in doubt": kinds[e.EffectInDoubt],
        "called again after 'not executed'": again,
        "late calls refused by their fence": sum(calls.refused for calls in history.calls.values()),
        "signals": len(history.signals),
        "signals said again": said_again,
        "waits": kinds[e.WaitCompleted],
        "attempts that failed and were retried": sum(
            isinstance(event, e.StepFailed | e.EffectFailed) and event.retry_at is not None for event in events
        ),
        "children": kinds[e.ChildStarted],
        "checkpoints": kinds[e.CheckpointSaved],
        "effects taken back": kinds[e.StepCompensated],
    }


def recoveries(history: History, faults: Sequence[Fault]) -> Iterator[Recovery]:
    spans: dict[str, list[float]] = {}
    for fault in faults:
        name = next(described([fault]))[0]
        for chain in history.chains.values():
            span = _interrupted_for(chain, fault)
            if span is not None:
                spans.setdefault(name, []).append(span)
    for name, seconds in sorted(spans.items()):
        cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
        yield Recovery(name, len(seconds), round(cuts[49], 3), round(cuts[98], 3))


def _interrupted_for(chain: Chain, fault: Fault) -> float | None:
    """Seconds until its next commit, where the job was running and the fault was its holder's or everybody's."""
    before = [link for link in chain.links if link.at <= fault.at]
    after = next((link for link in chain.links if link.at > fault.at), None)
    if not before or after is None or _waiting(before):
        return None
    if fault.kind in (Kind.KILL, Kind.FREEZE, Kind.CUT) and fault.target.startswith("runner-"):
        holder = [event.runner_id for link in before for event in link.events if isinstance(event, e.JobLeased)]
        if not holder or holder[-1] != fault.target:
            return None
    return after.at - fault.at


def _waiting(links: Sequence[Link]) -> bool:
    """Whether the job waits for a timer, a signal or a person, and not for a runner."""
    waits: set[str] = set()
    for link in links:
        for event in link.events:
            if isinstance(event, e.JobWaiting):
                waits.add(event.path)
            elif isinstance(event, e.WaitCompleted):
                waits.discard(event.path)
            elif isinstance(event, EFFECT):
                # An operator's wait has no end of its own: the verdict is.
                waits.discard(event.path)
    return bool(waits)
