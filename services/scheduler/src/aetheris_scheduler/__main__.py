from aetheris_chassis.entrypoint import main

from aetheris_scheduler.app import serve
from aetheris_scheduler.settings import Settings

main("aetheris_scheduler", Settings, serve)
