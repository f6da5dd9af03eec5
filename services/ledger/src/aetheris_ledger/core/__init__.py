"""What the ledger promises, without I/O: appends, effects, and whether a chain and its effects agree."""
