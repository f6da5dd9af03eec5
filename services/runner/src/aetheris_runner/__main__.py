from aetheris_chassis.entrypoint import main

from aetheris_runner.app import serve
from aetheris_runner.settings import Settings

main("aetheris_runner", Settings, serve)
