"""What a line of the log looks like, in a process of its own: logging is set up once per process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CODE = """
import logging, structlog
from aetheris_chassis.logs import setup_logging
setup_logging("ledger", "info")
log = structlog.get_logger()
log.debug("too quiet")
log.info("effect recorded", job_id="j", seconds=0.5)
try:
    password = "hunter2"
    raise KeyError("k")
except KeyError:
    log.exception("call failed")
structlog.contextvars.bind_contextvars(service="gateway")
logging.getLogger("asyncpg").warning("from a %s", "library")
logging.getLogger("asyncpg").info("too quiet")
"""


def lines() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_json_with_its_facts_its_service_and_its_time():
    effect, failed, library = lines()

    assert effect | {"timestamp": ""} == {
        "event": "effect recorded",
        "job_id": "j",
        "level": "info",
        "seconds": 0.5,
        "service": "ledger",
        "timestamp": "",
    }
    assert str(effect["timestamp"]).endswith("Z")
    assert failed["exception"][0]["exc_type"] == "KeyError"
    assert (library["event"], library["level"], library["service"]) == ("from a library", "warning", "gateway")


def test_a_traceback_does_not_tell_the_values_of_variables():
    assert "hunter2" not in json.dumps(lines())
