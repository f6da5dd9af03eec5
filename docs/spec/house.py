"""Aetheris as an explicit-state model: lease × chain × effect × park/wake, small enough to explore all of it.

    inbox ── wake ──► scheduler's row ── lease ──► runner ── append ──► chain ── permission ──► the world
                           ▲                        │  ▲
                           └──── park · end ────────┘  └── answer, or none

One step is one transition: a function that takes the state and yields the states that may follow. Nothing is fair and
nothing is on time: any step that is possible may be the next one, so a runner that takes no step for a while *is*
a frozen one, and a message that is not delivered for a while *is* a slow one. Each fault takes one from a
budget (`faults`), so that the states are finitely many and "the end can be reached from here" means: without
a further fault and without luck. `README.md` says what is in the model, and what is not.

    python docs/spec/house.py            explore everything, and see every broken variant fail
    python docs/spec/house.py --deep     and further out; minutes
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

NONE = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that the services keep. The model with one of them switched off is a broken variant and must fail."""

    parent_is_checked: bool = True
    own_retry_is_recognised: bool = True
    permission_is_awaited: bool = True
    takeover_fences_first: bool = True
    takeover_looks_for_the_end: bool = True
    doubt_asks_the_world: bool = True
    warm_memory_asks_the_lease: bool = True
    end_is_recorded_before_it_is_told: bool = True
    settled_after_it_is_recorded: bool = True
    business_key_is_unique: bool = True
    park_heeds_the_wake: bool = True
    cancel_is_a_wake: bool = True
    lease_number_is_compared: bool = True
    persisted_before_woken: bool = True
    sweep_follows: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs, runners and faults that are explored."""

    program: tuple[str, ...] = ("effect", "signal")
    jobs: int = 1
    runners: int = 2
    faults: int = 2
    cancels: bool = False
    # All effects go by one business key, at most once over all jobs.
    shared: bool = False


class Commit(NamedTuple):
    """One event at one place of the chain; `seq` is the place its writer meant."""

    seq: int
    lease: int
    event: str
    place: int = NONE

    def __str__(self) -> str:
        return f"{self.event}{'' if self.place < 0 else f' #{self.place}'} at {self.seq} under lease {self.lease}"


class Step(NamedTuple):
    """One step, for people and for traces."""

    what: str
    job: int = 0
    lease: int = 0
    event: str = ""
    place: int = NONE
    who: int = NONE

    def __str__(self) -> str:
        parts = [self.what, f"job {self.job}"]
        parts += [f"lease {self.lease}"] if self.lease else []
        parts += [self.event + ("" if self.place < 0 else f" #{self.place}")] if self.event else []
        parts += [f"runner {self.who}"] if self.who >= 0 else []
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class Job:
    """One job's chain at the ledger, its row at the scheduler, and its signal at the gateway."""

    chain: tuple[Commit, ...] = ()
    state: str = "ready"  # leased, parked, ended
    lease: int = 0
    holder: int = NONE
    orphaned: bool = False  # its holder's process has gone
    wake: bool = False
    cancel: bool = False
    robbed: bool = False  # a lease was once taken from a holder that lives
    signal: str = "none"  # accepted
    waking: str = "none"  # due: the gateway is about to; lost: it died before; done
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Runner:
    job: int = NONE
    lease: int = 0
    warm: bool = False  # parked, with everything still in memory
    told_cancel: bool = False
    sure: bool = False  # no other runner can have written: the first lease, or warm and the very next one
    view: tuple[Commit, ...] | None = None  # the chain as this runner knows it; None: not read yet
    fenced: bool = False  # its own job_leased is in the chain
    sending: Commit | None = None
    permit: int = 0  # the permission in hand, by its commit
    inside: int = 0  # the tool has been entered under this permission, and its outcome is not recorded
    heard: bool = False  # the inbox held nothing
    unsettled: bool = False
    saying: str = ""

    @property
    def holds(self) -> bool:
        return self.job != NONE and not self.warm


class Row(NamedTuple):
    """The ledger's row of the business key."""

    state: str
    job: int


@dataclass(frozen=True, slots=True)
class House:
    jobs: tuple[Job, ...]
    runners: tuple[Runner, ...]
    faults: int
    wire: frozenset[tuple[int, Commit]] = frozenset()  # appends under way, also those of the dead
    words: frozenset[tuple[int, int, int, str]] = frozenset()  # what the scheduler is being told
    entered: tuple[tuple[int, int, int], ...] = ()  # the world: job, place, permission
    row: Row | None = None


Next = Iterator[tuple[Step, House]]
TERMINAL = ("completed", "cancelled")


def begin(plan: Plan) -> House:
    return House((Job(),) * plan.jobs, (Runner(),) * plan.runners, plan.faults)


def with_job(s: House, number: int, job: Job) -> House:
    return replace(s, jobs=(*s.jobs[:number], job, *s.jobs[number + 1 :]))


def with_runner(s: House, number: int, runner: Runner) -> House:
    return replace(s, runners=(*s.runners[:number], runner, *s.runners[number + 1 :]))


def ended(chain: tuple[Commit, ...]) -> str:
    return next((commit.event for commit in chain if commit.event in TERMINAL), "")


@cache
def standing(view: tuple[Commit, ...], program: tuple[str, ...]) -> tuple[str, int, str]:
    """The program's next command by this record: its kind, its place, and the events that the record has of it."""
    for place, kind in enumerate(program):
        last = next((commit.event for commit in reversed(view) if commit.place == place), "")
        if last not in ("committed", "recorded", "got_signal"):
            return kind, place, last
    return "end", NONE, ""


# The scheduler.


def scheduler_leases(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if job.state != "ready":
            continue
        offered: set[Runner] = set()
        for who, runner in enumerate(s.runners):
            if runner.holds or runner in offered:
                continue
            offered.add(runner)
            lease = job.lease + 1
            still_true = runner.lease + 1 == lease or not rules.warm_memory_asks_the_lease
            warm = runner.warm and runner.job == number and still_true
            known = runner.view if warm else () if lease == 1 else None
            told = Runner(number, lease, told_cancel=job.cancel, sure=known is not None, view=known)
            leased = replace(job, state="leased", lease=lease, holder=who, wake=False, orphaned=False)
            yield Step("leased", number, lease, who=who), with_runner(with_job(s, number, leased), who, told)


def _lost(job: Job) -> Job:
    return replace(job, state="ready", lease=job.lease + 1, holder=NONE, orphaned=False)


def scheduler_misses_a_dead_runner(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if job.state == "leased" and job.orphaned:
            yield Step("lost", number, job.lease), with_job(s, number, _lost(job))


def scheduler_loses_a_living_runner(s: House, rules: Rules, plan: Plan) -> Next:
    """The runner loses the lease without knowing it: its stream is cut, or it is frozen beyond the lease."""
    for number, job in enumerate(s.jobs):
        if s.faults and job.state == "leased" and not job.orphaned:
            robbed = replace(_lost(job), robbed=True)
            yield Step("lost", number, job.lease), replace(with_job(s, number, robbed), faults=s.faults - 1)


def scheduler_hears(s: House, rules: Rules, plan: Plan) -> Next:
    """Park or the end."""
    for said in s.words:
        number, who, lease, word = said
        job, runner = s.jobs[number], s.runners[who]
        counts = job.state == "leased" and (job.lease, job.holder) == (lease, who)
        if not rules.lease_number_is_compared:
            counts = job.state == "leased"
        step = Step("stale word", number, lease, word)
        if counts and word == "park":
            woken = job.wake and rules.park_heeds_the_wake
            job = replace(job, state="ready" if woken else "parked", holder=NONE, orphaned=False)
            step = Step("park met a wake" if woken else "parked", number, lease)
        elif counts:
            job = replace(job, state="ended", holder=NONE, orphaned=False, wake=False)
            step = Step("ended", number, lease, word)
        after = with_job(s, number, job)
        if runner.saying == word and runner.lease == lease:
            keep_warm = word == "park" and counts
            let_go = Runner(number, lease, warm=True, view=runner.view) if keep_warm else Runner()
            yield step, replace(with_runner(after, who, let_go), words=s.words - {said})
            if s.faults:  # the answer is lost with the stream, and the same is said again
                unheard = step._replace(what=f"{step.what}, answer lost")
                yield unheard, replace(after, faults=s.faults - 1, words=s.words - {said})
        else:
            yield step, replace(after, words=s.words - {said})


def caller_cancels(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if plan.cancels and not job.cancel and job.state != "ended":
            state = "ready" if job.state == "parked" else job.state
            wake = job.wake or (state == "leased" and rules.cancel_is_a_wake)
            yield Step("cancel", number), with_job(s, number, replace(job, cancel=True, state=state, wake=wake))


# The gateway.


def gateway_accepts_a_signal(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if "signal" not in plan.program or job.signal != "none" or job.state == "ended":
            continue
        if rules.persisted_before_woken:
            yield Step("signal", number), with_job(s, number, replace(job, signal="accepted", waking="due"))
        elif job.waking == "none":
            yield Step("about to accept", number), with_job(s, number, replace(job, waking="due"))
        elif job.waking == "done":
            yield Step("signal", number), with_job(s, number, replace(job, signal="accepted"))


def gateway_wakes(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if job.waking != "due":
            continue
        state = "ready" if job.state == "parked" else job.state
        woken = replace(job, state=state, wake=job.wake or state == "leased")
        yield Step("woken", number), with_job(s, number, replace(woken, waking="done"))
        if s.faults:  # the answer is lost: it is not noted that the job was woken
            unheard = with_job(s, number, replace(woken, waking="lost"))
            yield Step("woken, answer lost", number), replace(unheard, faults=s.faults - 1)


def gateway_crashes_before_it_wakes(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if s.faults and job.waking == "due" and job.signal == "accepted":
            lost = with_job(s, number, replace(job, waking="lost"))
            yield Step("gateway crashed", number), replace(lost, faults=s.faults - 1)


def sweep_finds_the_unwoken(s: House, rules: Rules, plan: Plan) -> Next:
    for number, job in enumerate(s.jobs):
        if job.waking == "lost" and not job.settled and rules.sweep_follows:
            yield Step("swept", number), with_job(s, number, replace(job, waking="due"))


# The ledger.


def ledger_decides(s: House, rules: Rules, plan: Plan) -> Next:
    for sent in s.wire:
        number, commit = sent
        job = s.jobs[number]
        answer, row = judge(job.chain, commit, number, s.row, rules, plan)
        if answer == "appended" and not _stands(job.chain, commit, rules):
            job = replace(job, chain=(*job.chain, commit))
        what = "appended" if answer == "appended" else "refused"
        step = Step(what, number, commit.lease, commit.event, commit.place)
        after = replace(with_job(s, number, job), wire=s.wire - {sent}, row=row)
        listening = [w for w, r in enumerate(s.runners) if r.sending == commit and r.job == number]
        for who in listening:
            yield step, with_runner(after, who, answered(s.runners[who], commit, answer, rules))
        if not listening:
            yield step, after
        elif s.faults:
            yield step._replace(what=f"{what}, answer lost"), replace(after, faults=s.faults - 1)


def _stands(chain: tuple[Commit, ...], commit: Commit, rules: Rules) -> bool:
    return rules.parent_is_checked and len(chain) >= commit.seq


def judge(
    chain: tuple[Commit, ...], commit: Commit, job: int, row: Row | None, rules: Rules, plan: Plan
) -> tuple[str, Row | None]:
    """The answer to an append, and the business key's row after it."""
    if rules.parent_is_checked:
        if len(chain) >= commit.seq:
            same = chain[commit.seq - 1] == commit and rules.own_retry_is_recognised
            return ("appended" if same else "fenced"), row
        if len(chain) < commit.seq - 1 or (chain and chain[-1].lease > commit.lease):
            return "fenced", row
    if not plan.shared or commit.event not in ("started", "committed", "in_doubt", "not_executed"):
        return "appended", row
    if commit.event != "started":
        return "appended", Row(commit.event, row.job if row else job)
    free = row is None or row.state == "not_executed" or (row.state == "in_doubt" and row.job == job)
    if free or not rules.business_key_is_unique:
        return "appended", Row("started", job)
    return ("recorded" if row and row.state == "committed" else "taken"), row


def answered(runner: Runner, commit: Commit, answer: str, rules: Rules) -> Runner:
    view = runner.view or ()
    if answer == "appended":
        known = replace(runner, view=(*view, commit), sending=None)
        match commit.event:
            case "leased":
                return replace(known, fenced=True)
            case "started":
                entered_already = known.inside == commit.seq
                return replace(known, permit=0 if entered_already else commit.seq)
            case "committed":
                return replace(known, inside=0)
            case "got_signal":
                return replace(known, unsettled=rules.settled_after_it_is_recorded)
        return known
    if answer == "recorded":
        return replace(runner, sending=Commit(commit.seq, commit.lease, "recorded", commit.place))
    if answer == "taken":
        return replace(runner, sending=None)
    if commit.event == "leased" and not runner.sure:
        return replace(runner, view=None, sending=None)  # another runner wrote in between: read the chain again
    return Runner()


# The runner.


def runner_reads_the_chain(s: House, rules: Rules, plan: Plan) -> Next:
    for who, runner in enumerate(s.runners):
        if not runner.holds or runner.view is not None or runner.saying:
            continue
        chain = s.jobs[runner.job].chain
        step = Step("read", runner.job, runner.lease, who=who)
        end = ended(chain) if rules.takeover_looks_for_the_end else ""
        if chain and chain[-1].lease > runner.lease:
            yield step, with_runner(s, who, Runner())
        elif end:
            yield step, with_runner(s, who, Runner(runner.job, runner.lease, view=chain, fenced=True))
        else:
            fenced = not rules.takeover_fences_first
            yield step, with_runner(s, who, replace(runner, view=chain, fenced=fenced))


def runner_goes_on(s: House, rules: Rules, plan: Plan) -> Next:
    """The next thing that the record asks for: an append, or an outcome for the scheduler."""
    for who, runner in enumerate(s.runners):
        if not runner.holds or runner.view is None or runner.sending or runner.saying or runner.permit:
            continue
        if not runner.fenced:
            yield _append(s, who, "leased", NONE)
            continue
        kind, place, last = standing(runner.view, plan.program)
        end = ended(runner.view)
        if end:
            yield _say(s, who, end)
        elif runner.inside:
            yield _append(s, who, "committed", place)
        elif runner.told_cancel:
            yield _append(s, who, "cancelled", NONE)
        elif kind == "end":
            if rules.end_is_recorded_before_it_is_told:
                yield _append(s, who, "completed", NONE)
            else:
                yield _say(s, who, "completed")
        elif kind == "effect":
            yield _append(s, who, _next_of_effect(s, rules, plan, runner.job, place, last), place)
        elif last != "waiting":
            yield _append(s, who, "waiting", place)
        elif s.jobs[runner.job].signal == "accepted" and not s.jobs[runner.job].settled and not runner.heard:
            step, after = _append(s, who, "got_signal", place)
            if not rules.settled_after_it_is_recorded:
                after = with_job(after, runner.job, replace(after.jobs[runner.job], settled=True))
            yield step, after
        elif runner.heard:
            yield _say(s, who, "park")


def _next_of_effect(s: House, rules: Rules, plan: Plan, job: int, place: int, last: str) -> str:
    match last:
        case "started":  # its holder was lost before the outcome was recorded
            return "in_doubt" if rules.doubt_asks_the_world else "started"
        case "in_doubt":
            happened = any(plan.shared or call[:2] == (job, place) for call in s.entered)
            return "committed" if happened else "not_executed"
    return "started"


def _append(s: House, who: int, event: str, place: int) -> tuple[Step, House]:
    runner = s.runners[who]
    commit = Commit(len(runner.view or ()) + 1, runner.lease, event, place)
    after = with_runner(s, who, replace(runner, sending=commit))
    step = Step("sent", runner.job, runner.lease, event, place, who)
    return step, replace(after, wire=s.wire | {(runner.job, commit)})


def _say(s: House, who: int, word: str) -> tuple[Step, House]:
    runner = s.runners[who]
    after = with_runner(s, who, replace(runner, saying=word))
    step = Step("said", runner.job, runner.lease, word, who=who)
    return step, replace(after, words=s.words | {(runner.job, who, runner.lease, word)})


def runner_sends_again(s: House, rules: Rules, plan: Plan) -> Next:
    """No answer came: the same append or outcome is sent again."""
    for who, runner in enumerate(s.runners):
        if runner.sending and (runner.job, runner.sending) not in s.wire:
            again = replace(s, wire=s.wire | {(runner.job, runner.sending)})
            yield Step("sent again", runner.job, runner.lease, runner.sending.event, who=who), again
        word = (runner.job, who, runner.lease, runner.saying)
        if runner.saying and word not in s.words:
            yield Step("said again", runner.job, runner.lease, who=who), replace(s, words=s.words | {word})


def runner_enters_the_tool(s: House, rules: Rules, plan: Plan) -> Next:
    for who, runner in enumerate(s.runners):
        permit = runner.permit
        sent = runner.sending
        if not rules.permission_is_awaited and sent is not None and sent.event == "started" and not runner.inside:
            permit = sent.seq
        if not permit:
            continue
        view = runner.view or ()
        place = sent.place if sent is not None else view[permit - 1].place
        inside = with_runner(s, who, replace(runner, permit=0, inside=permit))
        step = Step("entered", runner.job, runner.lease, place=place)
        yield step, replace(inside, entered=(*s.entered, (runner.job, place, permit)))


def runner_looks_into_the_inbox(s: House, rules: Rules, plan: Plan) -> Next:
    """The runner may look before its wait is recorded; a signal that it finds is taken after."""
    for who, runner in enumerate(s.runners):
        if not runner.holds or not runner.fenced or runner.heard or runner.saying or runner.view is None:
            continue
        job = s.jobs[runner.job]
        waits = standing(runner.view, plan.program)[0] == "signal" and not ended(runner.view)
        empty = job.signal != "accepted" or job.settled
        if waits and empty and (runner.sending is None or runner.sending.event == "waiting"):
            yield Step("looked", runner.job, who=who), with_runner(s, who, replace(runner, heard=True))


def runner_settles_the_signal(s: House, rules: Rules, plan: Plan) -> Next:
    for who, runner in enumerate(s.runners):
        if runner.unsettled:
            settled = with_job(s, runner.job, replace(s.jobs[runner.job], settled=True))
            yield Step("settled", runner.job), with_runner(settled, who, replace(runner, unsettled=False))


def runner_hears_news(s: House, rules: Rules, plan: Plan) -> Next:
    """A notice of a signal or a cancel. It may come late or never, because the flags in the row are enough."""
    for who, runner in enumerate(s.runners):
        job = s.jobs[runner.job] if runner.holds else Job()
        if not runner.holds or (job.state, job.lease, job.holder) != ("leased", runner.lease, who) or runner.saying:
            continue
        if job.wake and runner.heard:
            yield Step("nudged", runner.job, who=who), with_runner(s, who, replace(runner, heard=False))
        if job.cancel and not runner.told_cancel:
            yield Step("told to end", runner.job, who=who), with_runner(s, who, replace(runner, told_cancel=True))


def runner_crashes(s: House, rules: Rules, plan: Plan) -> Next:
    for who, runner in enumerate(s.runners):
        if s.faults and runner.job != NONE:
            jobs = tuple(
                replace(job, orphaned=True) if job.state == "leased" and job.holder == who else job for job in s.jobs
            )
            gone = replace(with_runner(s, who, Runner()), jobs=jobs, faults=s.faults - 1)
            yield Step("crashed", runner.job, runner.lease, who=who), gone


TRANSITIONS = (
    scheduler_leases, scheduler_hears, scheduler_misses_a_dead_runner, scheduler_loses_a_living_runner,
    caller_cancels, gateway_accepts_a_signal, gateway_wakes, gateway_crashes_before_it_wakes,
    sweep_finds_the_unwoken, ledger_decides, runner_reads_the_chain, runner_goes_on, runner_sends_again,
    runner_enters_the_tool, runner_looks_into_the_inbox, runner_settles_the_signal, runner_hears_news, runner_crashes,
)  # fmt: skip


def steps_from(s: House, rules: Rules, plan: Plan) -> Next:
    for transition in TRANSITIONS:
        yield from transition(s, rules, plan)


if __name__ == "__main__":
    from explore import main

    sys.exit(main())
