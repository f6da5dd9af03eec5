"""The State Relay Protocol: how a process hands its memory to its successor. See docs/srp.md.

`wire/` holds bytes, frames, messages and state. `admission` and `accept` let processes connect, `peer_v2` and
`peer_v1` speak to one of them in either version, and `broker/` carries out what `aeterna.table.broker` decides.
"""
