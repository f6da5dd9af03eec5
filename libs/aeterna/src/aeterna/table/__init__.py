"""The decisions of the supervisor and of the relay protocol: tables without I/O, time or processes.

`service` is the life of a supervised service, `broker`, `giver` and `taker` are the three sides of a hand-over, and
`events` is the vocabulary that all four share. `restart` says when a dead process is started again, `soak` when a
successor has failed its trial, `addresses` which addresses mean one socket. The code around these tables raises events
and carries out actions; it decides nothing.
"""
