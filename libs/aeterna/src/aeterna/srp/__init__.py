"""The State Relay Protocol: how a process hands its memory to its successor. See docs/srp.md.

`wire`, `messages`, `state`, `giver`, `taker` and `relay` are pure: bytes and events in, bytes and actions
out. `link`, `sealed`, `claim` and `broker` do what they say.
"""
