"""`python -m aetheris.cli` is `aetheris`."""

from aetheris.cli.main import main

main()
