"""The step contract: what agent code may do only in steps. `guard` enforces it at run time, `aetheris.lint` in the
source."""
