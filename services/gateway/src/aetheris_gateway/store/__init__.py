"""The gateway's tables in PostgreSQL: the inbox, approvals and the keys of tokens."""
