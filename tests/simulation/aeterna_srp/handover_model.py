"""One hand-over as a model: the three tables of the protocol, queues between them, and the faults that may come.

`explore` walks every interleaving of every move, crashes included, and reports each state in which the promise is
broken. A member's crash leaves what it sent in the queue, then the end of the stream, then the proof of death.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from aeterna.table import broker, giver, taker
from aeterna.table.broker import BrokerAction, BrokerState, GiverPresence, Owner, Tell, TellFailure
from aeterna.table.events import HandoverEvent as H
from aeterna.table.giver import GiverAction, GiverState
from aeterna.table.taker import TakerAction, TakerState

GS, TS, BS = GiverState, TakerState, BrokerState
GA, TA, BA = GiverAction, TakerAction, BrokerAction

Queue = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults that may still come in this run."""

    giver_crash: bool = False
    taker_crash: bool = False
    broker_crash: bool = False
    late: int = 0
    abort: bool = False
    refuse: bool = False
    export_fails: bool = False


@dataclass(frozen=True, slots=True)
class HandoverModel:
    ownership: broker.Ownership
    faults: Faults
    g: GiverState = GS.SERVING
    t: TakerState = TS.WAITING
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
    session_number: int = 0  # COLD begins a new session, so that answers to the old one are ignored
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

    give: Callable[[GiverState, H], tuple[GiverState, giver.Actions]] = giver.advance
    take: Callable[[TakerState, H], tuple[TakerState, taker.Actions]] = taker.advance
    decide: Callable[..., broker.Advance] = broker.advance
    claims: bool = True


@dataclass(slots=True)
class Report:
    states: int = 0
    two_owners: list[HandoverModel] = field(default_factory=list)
    wrong_ends: list[HandoverModel] = field(default_factory=list)
    ends: set[tuple[Any, ...]] = field(default_factory=set)


def start(faults: Faults, *, cold_start: bool = False) -> HandoverModel:
    ownership, actions = broker.begin(GiverPresence.HERE, taker_here=True)
    return _obey(HandoverModel(ownership, faults, cold_start=cold_start), actions)


def explore(first: HandoverModel, rules: Rules | None = None, *, until_wrong: bool = False) -> Report:
    rules = rules or Rules()
    report = Report()
    seen = {first}
    stack = [first]
    while stack and not (until_wrong and (report.two_owners or report.wrong_ends)):
        model = stack.pop()
        report.states += 1
        if len(model.acting()) > 1 and not model.ownership.cold:  # a cold start inherits nothing to own twice
            report.two_owners.append(model)
            continue
        progress = list(_progress(model, rules))
        if not progress:
            report.ends.add((model.told, tuple(model.acting())))
            if not _ends_well(model):
                report.wrong_ends.append(model)
        for following in (*progress, *_mishaps(model, rules)):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return report


def _ends_well(model: HandoverModel) -> bool:
    """In a final state: exactly one live process acts, and it is the one that was reported to the supervisor."""
    acting = model.acting()
    if not model.g_alive and not (model.t_alive and model.t is not TS.OUT):
        return acting == []
    if not model.b_alive and not model.t_alive:
        return True  # the broker is dead too, so no process can tell the standby
    if not model.b_alive and not model.g_alive:
        return True  # a taker without a broker ends, or owns
    expected = {"ready": ["taker"], "giver": ["giver"], "neither": []}
    if model.b_alive and model.told and model.told[-1] in expected:
        return acting == expected[model.told[-1]]
    return len(acting) == 1


def _progress(model: HandoverModel, rules: Rules) -> Iterator[HandoverModel]:
    if model.b_alive:
        if model.from_giver:
            yield _to_broker(replace(model, from_giver=model.from_giver[1:]), "giver", model.from_giver[0], rules)
        if model.from_taker:
            yield _to_broker(replace(model, from_taker=model.from_taker[1:]), "taker", model.from_taker[0], rules)
        orders = {
            BS.PREPARED: H.COMMIT,
            BS.INSTALLED: H.RELEASE,
            BS.HELD: H.SKIP if model.cold_start else H.ABORT,
        }
        if model.ownership.state in orders:
            yield _decide(model, orders[model.ownership.state], rules)
        if model.ownership.state is BS.FENCING and model.t_alive and "fence" in model.told:
            yield _crash_taker(model)
        if (
            model.ownership.state in (BS.EXPORTING, BS.HOLDING)
            and model.ownership.giver is GiverPresence.LOST
            and model.g_alive
        ):
            yield _decide(model, H.LATE, rules)  # it hung up and lives: the grace ends
    if model.g_alive:
        if model.g_local:
            yield _giver_acts(replace(model, g_local=model.g_local[1:]), model.g_local[0], rules)
        elif model.to_giver:
            yield _giver_hears(replace(model, to_giver=model.to_giver[1:]), model.to_giver[0], rules)
        elif model.g is GS.EXPORTING:
            yield _giver_step(model, H.FROZE, rules)
    if model.t_alive:
        if model.t_local:
            yield _taker_acts(replace(model, t_local=model.t_local[1:]), model.t_local[0], rules)
        elif model.to_taker:
            yield _taker_hears(replace(model, to_taker=model.to_taker[1:]), model.to_taker[0], rules)
        elif model.t is TS.LOADED:
            yield _taker_step(model, H.APP_READY, rules)
        elif model.t is TS.INSTALLING:
            yield _taker_step(model, H.INSTALLED, rules)


def _mishaps(model: HandoverModel, rules: Rules) -> Iterator[HandoverModel]:
    faults = model.faults
    if faults.giver_crash and model.g_alive:
        crashed = replace(model, faults=replace(faults, giver_crash=False), g_alive=False, to_giver=(), g_local=())
        yield replace(crashed, from_giver=(*crashed.from_giver, "lost", "gone"))
    if faults.taker_crash and model.t_alive:
        yield _crash_taker(replace(model, faults=replace(faults, taker_crash=False)))
    if faults.broker_crash and model.b_alive:
        gone = replace(model, faults=replace(faults, broker_crash=False), b_alive=False)
        yield replace(gone, to_giver=(*gone.to_giver, "lost"), to_taker=(*gone.to_taker, "lost"))
    if faults.late:
        spent = replace(model, faults=replace(faults, late=faults.late - 1))
        if model.b_alive and model.ownership.state not in (BS.SOAKING, BS.OVER):
            yield _decide(spent, H.LATE, rules)
        if model.g_alive and not model.g_local and (rules.claims or model.g is GS.EXPORTING):
            yield _giver_step(spent, H.LATE, rules)
        if model.t_alive and not model.t_local:
            yield _taker_step(spent, H.LATE, rules)
    if faults.abort and model.b_alive:
        yield _decide(replace(model, faults=replace(faults, abort=False)), H.ABORT, rules)
    if faults.refuse and model.t_alive and not model.t_local and model.t in (TS.RECEIVING, TS.LOADED, TS.INSTALLING):
        yield _taker_step(replace(model, faults=replace(faults, refuse=False)), H.REFUSED, rules)
    if faults.export_fails and model.g_alive and not model.g_local and model.g is GS.EXPORTING:
        yield _giver_step(replace(model, faults=replace(faults, export_fails=False)), H.EXPORT_FAILED, rules)


def _crash_taker(model: HandoverModel) -> HandoverModel:
    return replace(model, t_alive=False, to_taker=(), t_local=(), from_taker=(*model.from_taker, "lost", "gone"))


# --- the broker

_GIVER_SAYS = {"end": H.END, "abort": H.EXPORT_FAILED, "lost": H.GIVER_HUNG_UP, "gone": H.GIVER_DIED}
_TAKER_SAYS = {
    "prepared": H.PREPARED, "installed": H.INSTALLED, "ready": H.READY, "abort": H.REFUSED,
    "lost": H.TAKER_HUNG_UP, "gone": H.TAKER_DIED,
}  # fmt: skip


def _to_broker(model: HandoverModel, who: str, message: str, rules: Rules) -> HandoverModel:
    if who == "giver" and message == "end" and model.ownership.state is BS.EXPORTING and model.t_alive:
        model = replace(model, to_taker=(*model.to_taker, "end"))
    message, _, number = message.partition(":")
    if number and int(number) != model.session_number:
        return model
    return _decide(model, (_GIVER_SAYS if who == "giver" else _TAKER_SAYS)[message], rules)


def _decide(model: HandoverModel, event: H, rules: Rules) -> HandoverModel:
    ownership, actions = rules.decide(model.ownership, event)
    return _obey(replace(model, ownership=ownership), actions)


def _obey(model: HandoverModel, actions: tuple[broker.Action, ...]) -> HandoverModel:
    for action in actions:
        match action:
            case TellFailure(_, owner):
                name = {Owner.GIVER: "giver", Owner.TAKER: "taker", Owner.NEITHER: "neither"}[owner]
                model = replace(model, told=(*model.told, name))
            case BA.SEND_PREPARE:
                model = _tell_taker(_tell_giver(model, "prepare"), "offer")
            case BA.SEND_DONE:
                model = _tell_giver(model, "done")
            case BA.RESUME_GIVER:
                model = _tell_giver(model, "resume" if model.claim else "resume claimed")
            case BA.FENCE_TAKER:
                model = replace(model, told=(*model.told, "fence") if "fence" not in model.told else model.told)
            case Tell(H.READY | H.SKIPPED):
                model = replace(model, told=(*model.told, "ready"))
            case BA.SEND_STORED | BA.SEND_COLD_KEEP:
                number = model.session_number + 1
                model = _tell_taker(replace(model, session_number=number), f"cold:{number}")
            case BA.SEND_COMMIT | BA.SEND_RELEASE | BA.ABORT_TAKER:
                model = _tell_taker(model, _TO_TAKER[action])
            case _:
                pass
    return model


_TO_TAKER = {
    BA.SEND_COMMIT: "commit", BA.SEND_RELEASE: "release", BA.ABORT_TAKER: "abort",
}  # fmt: skip


def _tell_giver(model: HandoverModel, message: str) -> HandoverModel:
    return replace(model, to_giver=(*model.to_giver, message)) if model.g_alive else model


def _tell_taker(model: HandoverModel, message: str) -> HandoverModel:
    return replace(model, to_taker=(*model.to_taker, message)) if model.t_alive else model


# --- the members

_GIVER_HEARS = {
    "prepare": H.PREPARE, "done": H.DONE, "resume": H.RESUME,
    "resume claimed": H.RESUME_CLAIMED, "lost": H.BROKER_HUNG_UP,
}  # fmt: skip
_TAKER_HEARS = {
    "offer": H.OFFER, "end": H.VERIFIED, "cold": H.COLD, "commit": H.COMMIT,
    "release": H.RELEASE, "abort": H.ABORT, "lost": H.BROKER_HUNG_UP,
}  # fmt: skip


def _giver_hears(model: HandoverModel, message: str, rules: Rules) -> HandoverModel:
    return _giver_step(model, _GIVER_HEARS[message], rules)


def _giver_step(model: HandoverModel, event: H, rules: Rules) -> HandoverModel:
    state, actions = rules.give(model.g, event)
    sent = {GA.SEND_REST: "end", GA.SEND_ABORT: "abort"}
    out = tuple(sent[action] for action in actions if action in sent)
    local = tuple("claim" for action in actions if action is GA.CLAIM)
    if not model.b_alive:
        out = ()
    return replace(model, g=state, from_giver=model.from_giver + out, g_local=model.g_local + local)


def _giver_acts(model: HandoverModel, what: str, rules: Rules) -> HandoverModel:
    if what != "claim":
        return _giver_step(model, H[what], rules)
    if not rules.claims:
        return replace(model, g_local=("CLAIM_WON", *model.g_local))
    return replace(model, claim=False, g_local=("CLAIM_WON" if model.claim else "CLAIM_EMPTY", *model.g_local))


def _taker_hears(model: HandoverModel, message: str, rules: Rules) -> HandoverModel:
    message, _, number = message.partition(":")
    if number:
        model = replace(model, t_session=int(number))
    return _taker_step(model, _TAKER_HEARS[message], rules)


def _taker_step(model: HandoverModel, event: H, rules: Rules) -> HandoverModel:
    state, actions = rules.take(model.t, event)
    sent = {
        TA.SEND_ABORT: "abort", TA.SEND_PREPARED: "prepared", TA.SEND_INSTALLED: "installed",
        TA.SEND_READY: "ready",
    }  # fmt: skip
    out = tuple(f"{sent[action]}:{model.t_session}" for action in actions if action in sent)
    local = tuple("claim" for action in actions if action is TA.CLAIM)
    if not model.b_alive:
        out = ()
    return replace(model, t=state, from_taker=model.from_taker + out, t_local=model.t_local + local)


def _taker_acts(model: HandoverModel, what: str, rules: Rules) -> HandoverModel:
    if what != "claim":
        return _taker_step(model, H[what], rules)
    if not rules.claims or model.ownership.cold:
        return replace(model, t_local=("CLAIM_WON", *model.t_local))
    return replace(model, claim=False, t_local=("CLAIM_WON" if model.claim else "CLAIM_EMPTY", *model.t_local))
