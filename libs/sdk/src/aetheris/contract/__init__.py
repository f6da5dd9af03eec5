"""The step contract: what agent code leaves to its steps, held at run time (`guard`) and at rest (`aetheris.lint`)."""
