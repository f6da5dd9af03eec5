-- What the gateway's own role may do. Entries, approvals and decisions are never removed, and what was decided or sent
-- never changes.
GRANT USAGE ON SCHEMA gateway TO {role};
GRANT SELECT, INSERT ON gateway.notes, gateway.approvals, gateway.decisions, gateway.token_keys TO {role};
GRANT UPDATE (settled_at, woken_at) ON gateway.notes TO {role};
GRANT UPDATE (state) ON gateway.approvals TO {role};
