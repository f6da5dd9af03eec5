"""What a program inside Aeterna uses. Each module can be used alone; `aeterna.AeternaClient` is the usual door."""
