"""The process that replays: `python -m aetheris.replay.sandbox`, asked and answering in lines of JSON.

It has no network: if the machine allows it, an empty network namespace of its own; in any case an audit hook that
refuses sockets and processes to all code in it, also while the agents' modules are imported. The output of agents goes
to stderr.

    {"agents": […], "live": false}              ──►  {"ready": "namespace", "agents": […]}
    {"history": "…", "what_if": null | […]}     ──►  {"progress": 10, "of": 40} … {"result": …} | {"rehearsed": …}
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from aetheris.contract.guard import in_force
from aetheris.contract.rules import EVENTS, NETWORK, PROCESS
from aetheris.definitions import AgentDefinition
from aetheris.driving.agents import load_agents
from aetheris.errors import AetherisError
from aetheris.history import History, parse
from aetheris.replay.driver import replay
from aetheris.replay.rehearsal import Answers, rehearse

_NEW_USER, _NEW_NET = 0x1000_0000, 0x4000_0000


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


def serve(asked: TextIO, answers: TextIO) -> None:
    def say(**told: Any) -> None:
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    with in_force():
        try:
            setting = json.loads(asked.readline())
            shut = "open" if setting["live"] else shut_network()
            agents = load_agents(setting["agents"])
        except AetherisError as error:
            say(error=str(error))
            return
        say(ready=shut, agents=sorted(agents))
        for line in asked:
            try:
                _answer(agents, json.loads(line), setting["live"], say)
            except AetherisError as error:
                say(error=str(error))


def _answer(
    agents: Mapping[str, AgentDefinition[Any]], request: Mapping[str, Any], live: bool, say: Callable[..., None]
) -> None:
    history = parse(request["history"], request["origin"])
    definition = agents.get(history.agent)
    if definition is None:
        known = ", ".join(sorted(agents))
        raise AetherisError(
            f"{request['origin']}: it is of agent {history.agent!r}; here there is {known}: give --agents"
        )
    if request["what_if"] is not None:
        answers = Answers.read(request["what_if"])
        found = asyncio.run(rehearse(definition, history, answers, live=live))
        say(rehearsed={**asdict(found), "same": found.same, "diff": found.diff, "unused": answers.unused})
    else:
        result = asyncio.run(replay(definition, history, _percents(history, say)))
        say(result=result.told())


def _percents(history: History, say: Callable[..., None]) -> Callable[[int], None]:
    """Reports the progress of a long history, at most a hundred times."""
    of = sum(1 for event in history.events if getattr(event, "path", ""))
    stride = max(of // 100, 100)

    def advanced(commands: int) -> None:
        if commands % stride == 0:
            say(progress=commands, of=of)

    return advanced


def shut_network() -> str:
    """Cut this process off from the network. Returns how."""
    refused = {event for event, rule in EVENTS.items() if rule in (NETWORK, PROCESS)}

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in refused:
            raise PermissionError(f"a replay has no network and starts nothing: {event}")

    means = "namespace" if _own_namespace() else "refused"
    sys.addaudithook(refuse)
    return means


def _own_namespace() -> bool:
    """Must run before any thread is started: a process with threads cannot enter a user namespace."""
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (OSError, AttributeError):
        return False
    if unshare(_NEW_NET) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if unshare(_NEW_USER | _NEW_NET) != 0:
        return False
    # The same user inside the namespace as outside.
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


if __name__ == "__main__":
    main()
