"""For tests of an upgrade, ours and yours: `Supervised` runs a real supervisor, `sample` is a small server for it."""
