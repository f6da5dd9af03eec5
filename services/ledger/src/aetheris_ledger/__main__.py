"""`python -m aetheris_ledger` serves; `python -m aetheris_ledger migrate` brings the database up to this code."""

from __future__ import annotations

from aetheris_chassis.entrypoint import main

from aetheris_ledger.app import serve
from aetheris_ledger.settings import Settings

if __name__ == "__main__":
    main("aetheris_ledger", Settings, serve)
