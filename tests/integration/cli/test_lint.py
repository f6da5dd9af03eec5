"""`aetheris lint`, as people and their CI type it."""

from __future__ import annotations

import json
from pathlib import Path

AGENT = """
import time
from aetheris import agent, now

@agent
async def shop():
    return time.time()
"""


async def test_s1_lint_says_where_and_what_instead_and_exits_accordingly(aetheris, tmp_path: Path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "shop.py").write_text(AGENT)
    (tmp_path / "good.py").write_text(AGENT.replace("time.time()", "await now()"))
    (tmp_path / "bad.py").write_text("1 +")
    found = await aetheris("lint", str(tmp_path / "agents"), str(tmp_path / "good.py"))
    as_json = await aetheris("lint", str(tmp_path / "agents"), "--json")
    good = await aetheris("lint", str(tmp_path / "good.py"))
    unreadable = await aetheris("lint", str(tmp_path / "bad.py"), str(tmp_path / "agents"))

    place = f"{tmp_path}/agents/shop.py:7:12: AE101 shop reads the clock: time.time()."
    assert (found.code, found.out.startswith(place), found.err) == (1, True, "aetheris: 1 finding\n")
    [told] = json.loads(as_json.out)
    assert (as_json.code, told["rule"], told["line"], told["column"]) == (1, "AE101", 7, 12)
    assert "await now()" in told["remedy"]
    assert (good.code, good.out, good.err) == (0, "", "aetheris: nothing found\n")
    assert (unreadable.code, "bad.py" in unreadable.err, "AE101" in unreadable.out) == (2, True, True)
