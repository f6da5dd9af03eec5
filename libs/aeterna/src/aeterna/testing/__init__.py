"""For tests of upgrades: `Supervised` runs a real supervisor, `sample` is a small server for it."""
