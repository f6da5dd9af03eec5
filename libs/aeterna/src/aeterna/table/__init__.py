"""What the supervisor promises: decisions without I/O, time or processes.

`table` says what follows what during the life of a service, `restart` when a dead process comes back, `soak`
when a new one has proved itself, `addresses` when two spellings mean one socket. The shell in
`aeterna.supervisor` raises events and obeys actions; it decides nothing.

The relay's broker (`aeterna.srp.broker`) raises JOINED, PREPARED, INSTALLED, HANDED_OVER (its READY), SKIPPED,
RETURNED and HANDOVER_FAILED, and is given PREPARE, COMMIT, RELEASE, SKIP_STATE, ABORT_HANDOVER, ABANDON_OLD,
RETURN_STATE and SETTLE.
"""
