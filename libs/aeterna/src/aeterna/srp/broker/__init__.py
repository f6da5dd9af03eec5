"""PID 1's part of the protocol: `broker` holds the members, `handover` carries out one hand-over."""
