"""`python -m aeterna` is `aeterna`."""

import sys

from aeterna.cli.main import main

sys.exit(main())
