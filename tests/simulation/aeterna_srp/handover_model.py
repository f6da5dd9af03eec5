"""One hand-over as a model: the three tables of the protocol, queues between them, and everything that can go wrong.

`explore` walks every interleaving of every move, crashes included, and reports each world in which the promise
is broken. A member's crash leaves what it sent in the queue, then the end of the stream, then the proof of death.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from aeterna.table import broker as relay
from aeterna.table import giver, taker
from aeterna.table.broker import Do, E, Fail, Giver, Owner, S
from aeterna.table.giver import G
from aeterna.table.taker import T

Queue = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Faults:
    """What may still go wrong in this run."""

    giver_crash: bool = False
    taker_crash: bool = False
    broker_crash: bool = False
    late: int = 0
    abort: bool = False
    refuse: bool = False
    export_fails: bool = False


@dataclass(frozen=True, slots=True)
class World:
    session: relay.Session
    faults: Faults
    g: G = G.SERVING
    t: T = T.WAITING
    claim: bool = True
    to_giver: Queue = ()
    to_taker: Queue = ()
    from_giver: Queue = ()
    from_taker: Queue = ()
    g_local: Queue = ()
    t_local: Queue = ()
    g_alive: bool = True
    t_alive: bool = True
    b_alive: bool = True
    told: Queue = ()
    cold_start: bool = False  # the supervisor's policy after a failure
    session_number: int = 0  # COLD begins a new one, so that answers to the old one mean nothing
    t_session: int = 0

    def acting(self) -> list[str]:
        return [
            name
            for name, acts in (
                ("giver", self.g_alive and self.g in giver.ACTS),
                ("taker", self.t_alive and self.t in taker.ACTS),
            )
            if acts
        ]


@dataclass(frozen=True, slots=True)
class Rules:
    """The tables under test; a mutation replaces one of them."""

    give: Callable[[G, giver.On], tuple[G, giver.Actions]] = giver.step
    take: Callable[[T, taker.On], tuple[T, taker.Actions]] = taker.step
    decide: Callable[..., relay.Decision] = relay.decide
    claims: bool = True


@dataclass(slots=True)
class Report:
    worlds: int = 0
    two_owners: list[World] = field(default_factory=list)
    wrong_ends: list[World] = field(default_factory=list)
    ends: set[tuple[Any, ...]] = field(default_factory=set)


def start(faults: Faults, *, cold_start: bool = False) -> World:
    session, actions = relay.begin(Giver.HERE, taker_here=True)
    return _obey(World(session, faults, cold_start=cold_start), actions)


def explore(first: World, rules: Rules | None = None, *, until_wrong: bool = False) -> Report:
    rules = rules or Rules()
    report = Report()
    seen = {first}
    stack = [first]
    while stack and not (until_wrong and (report.two_owners or report.wrong_ends)):
        world = stack.pop()
        report.worlds += 1
        if len(world.acting()) > 1 and not world.session.cold:  # a cold start inherits nothing to own twice
            report.two_owners.append(world)
            continue
        progress = list(_progress(world, rules))
        if not progress:
            report.ends.add((world.told, tuple(world.acting())))
            if not _ends_well(world):
                report.wrong_ends.append(world)
        for following in (*progress, *_mishaps(world, rules)):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return report


def _ends_well(world: World) -> bool:
    """At rest: whoever lives and could own, exactly one does, and it is whom the supervisor was told."""
    acting = world.acting()
    if not world.g_alive and not (world.t_alive and world.t is not T.OUT):
        return acting == []
    if not world.b_alive and not world.t_alive:
        return True  # two deaths, the broker's among them: nobody is left to tell the standby
    if not world.b_alive and not world.g_alive:
        return True  # a taker without a broker ends, or owns
    expected = {"ready": ["taker"], "giver": ["giver"], "nobody": []}
    if world.b_alive and world.told and world.told[-1] in expected:
        return acting == expected[world.told[-1]]
    return len(acting) == 1


def _progress(world: World, rules: Rules) -> Iterator[World]:
    if world.b_alive:
        if world.from_giver:
            yield _to_broker(replace(world, from_giver=world.from_giver[1:]), "giver", world.from_giver[0], rules)
        if world.from_taker:
            yield _to_broker(replace(world, from_taker=world.from_taker[1:]), "taker", world.from_taker[0], rules)
        orders = {S.PREPARED: E.COMMIT, S.INSTALLED: E.RELEASE, S.HELD: E.SKIP if world.cold_start else E.ABORT}
        if world.session.state in orders:
            yield _decide(world, orders[world.session.state], rules)
        if world.session.state is S.FENCING and world.t_alive and "fence" in world.told:
            yield _crash_taker(world)
        if world.session.state in (S.EXPORTING, S.HOLDING) and world.session.giver is Giver.LOST and world.g_alive:
            yield _decide(world, E.LATE, rules)  # it hung up and lives: the grace ends
    if world.g_alive:
        if world.g_local:
            yield _giver_acts(replace(world, g_local=world.g_local[1:]), world.g_local[0], rules)
        elif world.to_giver:
            yield _giver_hears(replace(world, to_giver=world.to_giver[1:]), world.to_giver[0], rules)
        elif world.g is G.EXPORTING:
            yield _giver_step(world, giver.On.FROZE, rules)
    if world.t_alive:
        if world.t_local:
            yield _taker_acts(replace(world, t_local=world.t_local[1:]), world.t_local[0], rules)
        elif world.to_taker:
            yield _taker_hears(replace(world, to_taker=world.to_taker[1:]), world.to_taker[0], rules)
        elif world.t is T.LOADED:
            yield _taker_step(world, taker.On.APP_READY, rules)
        elif world.t is T.INSTALLING:
            yield _taker_step(world, taker.On.INSTALLED, rules)


def _mishaps(world: World, rules: Rules) -> Iterator[World]:
    faults = world.faults
    if faults.giver_crash and world.g_alive:
        crashed = replace(world, faults=replace(faults, giver_crash=False), g_alive=False, to_giver=(), g_local=())
        yield replace(crashed, from_giver=(*crashed.from_giver, "lost", "gone"))
    if faults.taker_crash and world.t_alive:
        yield _crash_taker(replace(world, faults=replace(faults, taker_crash=False)))
    if faults.broker_crash and world.b_alive:
        gone = replace(world, faults=replace(faults, broker_crash=False), b_alive=False)
        yield replace(gone, to_giver=(*gone.to_giver, "lost"), to_taker=(*gone.to_taker, "lost"))
    if faults.late:
        spent = replace(world, faults=replace(faults, late=faults.late - 1))
        if world.b_alive and world.session.state not in (S.SOAKING, S.OVER):
            yield _decide(spent, E.LATE, rules)
        if world.g_alive and not world.g_local and (rules.claims or world.g is G.EXPORTING):
            yield _giver_step(spent, giver.On.LATE, rules)
        if world.t_alive and not world.t_local:
            yield _taker_step(spent, taker.On.LATE, rules)
    if faults.abort and world.b_alive:
        yield _decide(replace(world, faults=replace(faults, abort=False)), E.ABORT, rules)
    if faults.refuse and world.t_alive and not world.t_local and world.t in (T.RECEIVING, T.LOADED, T.INSTALLING):
        yield _taker_step(replace(world, faults=replace(faults, refuse=False)), taker.On.REFUSED, rules)
    if faults.export_fails and world.g_alive and not world.g_local and world.g is G.EXPORTING:
        yield _giver_step(replace(world, faults=replace(faults, export_fails=False)), giver.On.FAILED, rules)


def _crash_taker(world: World) -> World:
    return replace(world, t_alive=False, to_taker=(), t_local=(), from_taker=(*world.from_taker, "lost", "gone"))


# --- the broker

_GIVER_SAYS = {"end": E.ENDED, "abort": E.EXPORT_FAILED, "lost": E.GIVER_LOST, "gone": E.GIVER_GONE}
_TAKER_SAYS = {
    "prepared": E.PREPARED, "installed": E.INSTALLED, "ready": E.READY, "abort": E.REFUSED,
    "lost": E.TAKER_LOST, "gone": E.TAKER_GONE,
}  # fmt: skip


def _to_broker(world: World, who: str, message: str, rules: Rules) -> World:
    if who == "giver" and message == "end" and world.session.state is S.EXPORTING and world.t_alive:
        world = replace(world, to_taker=(*world.to_taker, "end"))
    message, _, number = message.partition(":")
    if number and int(number) != world.session_number:
        return world
    return _decide(world, (_GIVER_SAYS if who == "giver" else _TAKER_SAYS)[message], rules)


def _decide(world: World, event: E, rules: Rules) -> World:
    session, actions = rules.decide(world.session, event)
    return _obey(replace(world, session=session), actions)


def _obey(world: World, actions: tuple[relay.Action, ...]) -> World:
    for action in actions:
        match action:
            case Fail(_, owner):
                name = {Owner.GIVER: "giver", Owner.TAKER: "taker", Owner.NOBODY: "nobody"}[owner]
                world = replace(world, told=(*world.told, name))
            case Do.SEND_PREPARE:
                world = _tell_taker(_tell_giver(world, "prepare"), "offer")
            case Do.SEND_DONE:
                world = _tell_giver(world, "done")
            case Do.RESUME_GIVER:
                world = _tell_giver(world, "resume" if world.claim else "resume claimed")
            case Do.FENCE_TAKER:
                world = replace(world, told=(*world.told, "fence") if "fence" not in world.told else world.told)
            case Do.TELL_READY | Do.TELL_SKIPPED:
                world = replace(world, told=(*world.told, "ready"))
            case Do.SEND_STORED | Do.SEND_COLD_KEEP:
                number = world.session_number + 1
                world = _tell_taker(replace(world, session_number=number), f"cold:{number}")
            case Do.SEND_COMMIT | Do.SEND_RELEASE | Do.ABORT_TAKER:
                world = _tell_taker(world, _TO_TAKER[action])
            case _:
                pass
    return world


_TO_TAKER = {
    Do.SEND_COMMIT: "commit", Do.SEND_RELEASE: "release", Do.ABORT_TAKER: "abort",
}  # fmt: skip


def _tell_giver(world: World, message: str) -> World:
    return replace(world, to_giver=(*world.to_giver, message)) if world.g_alive else world


def _tell_taker(world: World, message: str) -> World:
    return replace(world, to_taker=(*world.to_taker, message)) if world.t_alive else world


# --- the members

_GIVER_HEARS = {
    "prepare": giver.On.PREPARE, "done": giver.On.DONE, "resume": giver.On.RESUME,
    "resume claimed": giver.On.RESUME_CLAIMED, "lost": giver.On.LOST,
}  # fmt: skip
_TAKER_HEARS = {
    "offer": taker.On.OFFER, "end": taker.On.VERIFIED, "cold": taker.On.COLD, "commit": taker.On.COMMIT,
    "release": taker.On.RELEASE, "abort": taker.On.ABORT, "lost": taker.On.LOST,
}  # fmt: skip


def _giver_hears(world: World, message: str, rules: Rules) -> World:
    return _giver_step(world, _GIVER_HEARS[message], rules)


def _giver_step(world: World, event: giver.On, rules: Rules) -> World:
    state, actions = rules.give(world.g, event)
    sent = {giver.Do.SEND_REST: "end", giver.Do.SEND_ABORT: "abort"}
    out = tuple(sent[action] for action in actions if action in sent)
    local = tuple("claim" for action in actions if action is giver.Do.CLAIM)
    if not world.b_alive:
        out = ()
    return replace(world, g=state, from_giver=world.from_giver + out, g_local=world.g_local + local)


def _giver_acts(world: World, what: str, rules: Rules) -> World:
    if what != "claim":
        return _giver_step(world, giver.On[what], rules)
    if not rules.claims:
        return replace(world, g_local=("WON", *world.g_local))
    return replace(world, claim=False, g_local=("WON" if world.claim else "EMPTY", *world.g_local))


def _taker_hears(world: World, message: str, rules: Rules) -> World:
    message, _, number = message.partition(":")
    if number:
        world = replace(world, t_session=int(number))
    return _taker_step(world, _TAKER_HEARS[message], rules)


def _taker_step(world: World, event: taker.On, rules: Rules) -> World:
    state, actions = rules.take(world.t, event)
    sent = {
        taker.Do.SEND_ABORT: "abort", taker.Do.SEND_PREPARED: "prepared", taker.Do.SEND_INSTALLED: "installed",
        taker.Do.SEND_READY: "ready",
    }  # fmt: skip
    out = tuple(f"{sent[action]}:{world.t_session}" for action in actions if action in sent)
    local = tuple("claim" for action in actions if action is taker.Do.CLAIM)
    if not world.b_alive:
        out = ()
    return replace(world, t=state, from_taker=world.from_taker + out, t_local=world.t_local + local)


def _taker_acts(world: World, what: str, rules: Rules) -> World:
    if what != "claim":
        return _taker_step(world, taker.On[what], rules)
    if not rules.claims or world.session.cold:
        return replace(world, t_local=("WON", *world.t_local))
    return replace(world, claim=False, t_local=("WON" if world.claim else "EMPTY", *world.t_local))
