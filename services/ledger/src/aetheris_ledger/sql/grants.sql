-- What the ledger's own role may do. The role that migrates owns the tables; this one can neither change nor remove a
-- commit, nor switch the triggers off that refuse it.
GRANT USAGE ON SCHEMA ledger TO {role};
GRANT SELECT, INSERT ON ledger.commits TO {role};
GRANT SELECT, INSERT ON ledger.effects TO {role};
-- All but the tenant and the key, which name the effect.
GRANT UPDATE (
    seq, lease, outcome_seq, updated_us, job_id, state, tool, arguments_digest, result_digest,
    note_us, note_verdict, note_source, note_result, note_actor, note_text
) ON ledger.effects TO {role};
