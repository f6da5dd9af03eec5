"""`python -m aetheris_gateway` serves; `python -m aetheris_gateway migrate` brings the database up to date."""

from aetheris_chassis.entrypoint import main

from aetheris_gateway.app import serve
from aetheris_gateway.settings import Settings

if __name__ == "__main__":
    main("aetheris_gateway", Settings, serve)
