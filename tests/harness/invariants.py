"""Checks that what clients saw in a chaos run agrees with what the services recorded. Pure.

    what clients were answered ─┐
    what the provider counted  ─┼─► check ─► violations, each with its rule
    chains, and the jobs' rows ─┘

Each rule looks at the whole history and yields every violation. A chaos run passes if no rule yields one. A rule also
passes when there was nothing to check, so the report counts what there was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aetheris_journal import events as e

from harness.history import EFFECT, Calls, Chain, History, Link

ENDS: Mapping[type[e.Event], str] = {e.JobCompleted: "completed", e.JobFailed: "failed", e.JobCancelled: "cancelled"}


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.text}"


Rule = Callable[[History], Iterator[tuple[str, str]]]


def check(history: History) -> list[Violation]:
    """Every violation in the history."""
    return [Violation(name, subject, text) for name, rule in RULES.items() for subject, text in rule(history)]


def lost_jobs(history: History) -> Iterator[tuple[str, str]]:
    for submission in history.submissions:
        for job_id in sorted(set(submission.job_ids)):
            row, chain = history.rows.get(job_id), history.chains.get(job_id)
            if row is None:
                yield job_id, f"{submission.key} was accepted, and the scheduler has no such job"
            elif chain is None or chain.end is None:
                yield job_id, f"{submission.agent} has not ended: {row.state} {row.why}".rstrip()


def one_job_per_key(history: History) -> Iterator[tuple[str, str]]:
    owners: dict[str, str] = {}
    for submission in history.submissions:
        for job_id in sorted(set(submission.job_ids)):
            other = owners.setdefault(job_id, submission.key)
            if other != submission.key:
                yield job_id, f"answers both {other} and {submission.key}"
        if len(set(submission.job_ids)) > 1:
            yield submission.key, f"was answered with {sorted(set(submission.job_ids))}"
    stored = Counter(row.key for row in history.rows.values() if row.key)
    for key, count in stored.items():
        if count > 1:
            yield key, f"is the key of {count} jobs"


def expected_ends(history: History) -> Iterator[tuple[str, str]]:
    for submission in history.submissions:
        for job_id in sorted(set(submission.job_ids)):
            chain = history.chains.get(job_id)
            end = chain.end if chain is not None else None
            if end is None:
                continue
            state = ENDS[type(end)]
            if state != submission.state:
                yield job_id, f"{submission.agent} ended {state}, not {submission.state}: {end}"
            elif isinstance(end, e.JobCompleted) and submission.result is not None:
                result = json.loads(end.result)
                if result != submission.result:
                    yield job_id, f"{submission.agent} returned {result!r}, not {submission.result!r}"


def whole_chains(history: History) -> Iterator[tuple[str, str]]:
    for job_id, chain in history.chains.items():
        if chain.problem:
            yield job_id, chain.problem
        if [link.seq for link in chain.links] != list(range(1, len(chain.links) + 1)):
            yield job_id, f"its places are {[link.seq for link in chain.links]}"
        created = sum(isinstance(event, e.JobCreated) for event in chain.events)
        if created != 1:
            yield job_id, f"it was created {created} times"
        ends = [number for number, event in enumerate(chain.events) if isinstance(event, e.TERMINAL)]
        if len(ends) > 1 or (ends and ends[0] != len(chain.events) - 1):
            yield job_id, "something follows its end"


def growing_leases(history: History) -> Iterator[tuple[str, str]]:
    """Leases follow each other: each commit is written under the last lease that the chain has seen begin."""
    for job_id, chain in history.chains.items():
        held = 0
        for link in chain.links:
            for event in link.events:
                if isinstance(event, e.JobLeased):
                    if event.lease <= held:
                        yield job_id, f"commit {link.seq}: lease {event.lease} follows lease {held}"
                    held = event.lease
            if link.lease != held:
                yield job_id, f"commit {link.seq} is written under lease {link.lease}, and {held} holds the job"


def agreeing_rows(history: History) -> Iterator[tuple[str, str]]:
    for job_id, row in history.rows.items():
        chain = history.chains.get(job_id)
        end = chain.end if chain is not None else None
        state = "" if end is None else ENDS[type(end)]
        if state != (row.state if row.state in ENDS.values() else ""):
            yield job_id, f"the scheduler says {row.state}, the chain says {state or 'nothing'}"
        elif isinstance(end, e.JobCompleted) and json.loads(row.result or b"null") != json.loads(end.result):
            yield job_id, f"the scheduler's result is {row.result!r}, the chain's {end.result!r}"
    for job_id in history.chains.keys() - history.rows.keys():
        yield job_id, "has a chain, and the scheduler does not know it"


def signals_heard_once(history: History) -> Iterator[tuple[str, str]]:
    for signal in history.signals:
        chain = history.chains.get(signal.job_id)
        subject = f"{signal.job_id} {signal.key}"
        notes = {answer.note_id for answer in signal.answers if answer.status == 200}
        heard = _completed(chain, signal.key) if chain is not None else []
        if len(notes) > 1:
            yield subject, f"is {len(notes)} signals: {sorted(notes)}"
        if len(heard) > 1:
            yield subject, f"ended {len(heard)} waits"
        end_at = chain.links[-1].at if chain is not None and chain.end is not None else float("inf")
        for answer in signal.answers:
            if answer.status not in (200, 409):
                yield subject, f"was answered with {answer.status}"
            elif answer.status == 409 and answer.at < end_at:
                yield subject, "was refused before its job had ended"
        if notes and not heard:
            yield subject, "was accepted and never heard"
        for event in heard:
            if event.source_id not in notes and notes:
                yield subject, f"ended the wait as {event.source_id}, and was accepted as {sorted(notes)}"
            if json.loads(event.payload or b"null") != signal.payload:
                yield subject, f"arrived as {event.payload!r}"


def _completed(chain: Chain, key: str) -> list[e.WaitCompleted]:
    """The ends of those waits that this signal ended."""
    waits = {event.path for event in chain.events if isinstance(event, e.JobWaiting) and event.name == key}
    return [event for event in chain.events if isinstance(event, e.WaitCompleted) and event.path in waits]


def waits_end_once(history: History) -> Iterator[tuple[str, str]]:
    for job_id, chain in history.chains.items():
        open_waits: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        for event in chain.events:
            match event:
                case e.JobWaiting(path=path) if path:
                    open_waits[path] += 1
                case e.WaitCompleted(path=path, source_id=source):
                    open_waits[path] -= 1
                    sources[source] += 1
        for path, count in open_waits.items():
            if count < 0 or count > 1:
                yield job_id, f"the wait at {path} ended {1 - count} times"
            elif count and isinstance(chain.end, e.JobCompleted):
                yield job_id, f"it completed, and its wait at {path} has not ended"
        for source, count in sources.items():
            if source and count > 1:
                yield job_id, f"note {source} ended {count} waits"


def effects_at_most_once(history: History) -> Iterator[tuple[str, str]]:
    for key, calls in history.calls.items():
        said = history.effects.get(key, ())
        again = sum(_permits_again(event) for _, _, event in said)
        tool = _tool(said)
        if tool in history.idempotent:
            if calls.applied > 1:
                yield key, f"{tool} changed the world {calls.applied} times"
        elif calls.applied > 1 + again:
            yield key, f"{tool} was called {calls.applied} times, and the record allows {1 + again}"


def _tool(said: Sequence[tuple[str, Link, e.Event]]) -> str:
    return next((event.name for _, _, event in said if isinstance(event, e.EffectStarted)), "")


def _permits_again(event: e.Event) -> bool:
    """Whether the record allows that the tool is entered again after this event."""
    return isinstance(event, e.EffectFailed) or (
        isinstance(event, e.EffectResolved) and event.verdict is e.Resolution.NOT_EXECUTED
    )


def effects_are_real(history: History) -> Iterator[tuple[str, str]]:
    """An effect that the record says was committed was made."""
    for key, said in history.effects.items():
        if any(_says_done(event) for _, _, event in said) and history.calls.get(key, Calls((), 0)).applied == 0:
            yield key, "is committed, and the provider was not called"


def _says_done(event: e.Event) -> bool:
    if isinstance(event, e.EffectResolved):
        return event.verdict is e.Resolution.COMMITTED
    return isinstance(event, e.EffectCommitted)


def effects_are_permitted(history: History) -> Iterator[tuple[str, str]]:
    """No call came before an intent for it was durable."""
    for key, calls in history.calls.items():
        intents = [link.at for _, link, event in history.effects.get(key, ()) if isinstance(event, e.EffectStarted)]
        if not intents:
            yield key, "was called, and no chain knows it"
        elif min(calls.times, default=float("inf")) < min(intents):
            yield key, "was called before its intent was recorded"


def effects_settle(history: History) -> Iterator[tuple[str, str]]:
    """No effect starts again after it was committed, and a completed job leaves no effect open."""
    for key, said in history.effects.items():
        state = ""
        for job_id, link, event in said:
            # An idempotent tool in doubt is called again: that ends its doubt.
            closed = ("started", "done") if _tool(said) in history.idempotent else ("started", "in doubt", "done")
            if isinstance(event, e.EffectStarted) and state in closed:
                yield key, f"commit {link.seq} of {job_id} starts it again while it is {state}"
            state = _state_after(event)
        job_id = said[-1][0]
        if state in ("started", "in doubt") and isinstance(history.chains[job_id].end, e.JobCompleted):
            yield key, f"{job_id} completed and left it {state}"


def effects_are_taken_back(history: History) -> Iterator[tuple[str, str]]:
    """A job that failed or was cancelled compensates its effects, newest first, each once; a completed job does not."""
    for job_id, chain in history.chains.items():
        owed = _owed(chain.events)
        undone = [event.key for event in chain.events if isinstance(event, e.StepCompensated)]
        if chain.end is not None and not isinstance(chain.end, e.JobCompleted) and undone != owed[::-1]:
            yield job_id, f"it did {owed} and took back {undone}"
        elif isinstance(chain.end, e.JobCompleted) and undone and not _asked_to(chain.events):
            yield job_id, f"it completed, and took back {undone}"


def _owed(events: Sequence[e.Event]) -> list[str]:
    """The committed effects that can be compensated, in the order in which they were started."""
    begun = {event.key: None for event in events if isinstance(event, e.EffectStarted) and event.compensate}
    done = {event.key for event in events if isinstance(event, EFFECT) and _says_done(event)}
    return [key for key in begun if key in done]


def _asked_to(events: Sequence[e.Event]) -> bool:
    return any(isinstance(event, e.StepCommitted) and event.name == "compensate" for event in events)


def children_come_once(history: History) -> Iterator[tuple[str, str]]:
    """Each child is a job of its own, and its parent records its end once, with the same result."""
    for job_id, chain in history.chains.items():
        begun = {event.child_job_id for event in chain.events if isinstance(event, e.ChildStarted)}
        heard = [event for event in chain.events if isinstance(event, e.ChildCompleted)]
        for child in sorted(begun):
            row = history.rows.get(child)
            if row is None or row.parent != job_id:
                yield job_id, f"began {child}, which is {'no job' if row is None else f'a child of {row.parent}'}"
        for child, count in Counter(event.child_job_id for event in heard).items():
            if count > 1 or child not in begun:
                yield job_id, f"heard {count} times of the end of {child}"
        for event in heard:
            other = history.chains.get(event.child_job_id)
            end = other.end if other is not None else None
            if isinstance(end, e.JobCompleted) != (event.failure is None) or (
                isinstance(end, e.JobCompleted) and json.loads(end.result) != json.loads(event.result)
            ):
                yield job_id, f"heard of {event.child_job_id} what is not so: {end}"
    for job_id, row in history.rows.items():
        if row.parent and row.state not in ENDS.values():
            yield job_id, f"a child that has not ended: {row.state} {row.why}"


def _state_after(event: e.Event) -> str:
    match event:
        case e.EffectStarted():
            return "started"
        case e.EffectInDoubt():
            return "in doubt"
        case e.EffectFailed() | e.EffectResolved(verdict=e.Resolution.NOT_EXECUTED):
            return "open"
    return "done"


RULES: Mapping[str, Rule] = {
    "no accepted job is lost": lost_jobs,
    "one key is one job": one_job_per_key,
    "every job ends as it must": expected_ends,
    "chains are whole": whole_chains,
    "leases grow": growing_leases,
    "scheduler and chain agree": agreeing_rows,
    "an accepted signal ends one wait": signals_heard_once,
    "a wait ends once": waits_end_once,
    "no effect is doubled": effects_at_most_once,
    "a committed effect was made": effects_are_real,
    "no effect without its intent": effects_are_permitted,
    "an effect settles": effects_settle,
    "a child is one job and is heard of once": children_come_once,
    "a job that does not complete takes its effects back": effects_are_taken_back,
}
