"""Bytes, frames, messages and state, as docs/srp.md has them: no decision is made here."""
