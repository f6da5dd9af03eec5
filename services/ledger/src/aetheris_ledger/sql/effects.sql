-- name: move_effects
-- The moves of one batch, at most one for each key. A row is moved where its state permits it: `owner` and `others`
-- hold a bit for each state from which the job that owns the effect, or another job, may make this move, and `opens`
-- says whether it may be made without a row. That is decided on the statement's snapshot; the last WHERE checks that
-- the row is still the one that was decided on. A writer that gets fewer rows than it sent rolls back. An empty tool
-- marks a move that makes no new intent. A refused start takes no lock, and rows come sorted by key, so that two
-- writers lock rows in the same order.
INSERT INTO ledger.effects AS e (
    tenant, key, job_id, seq, lease, tool, arguments_digest, state, result_digest, outcome_seq, updated_us
)
SELECT m.tenant, m.key, m.job_id, m.seq, m.lease, m.tool, m.arguments_digest, m.state, m.result_digest,
    CASE WHEN m.state = 1 THEN 0 ELSE m.seq END, $13
FROM unnest(
    $1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[], $8::smallint[],
    $9::bytea[], $10::int[], $11::int[], $12::boolean[]
) AS m (tenant, key, job_id, seq, lease, tool, arguments_digest, state, result_digest, owner, others, opens)
WHERE coalesce(
    (SELECT (CASE WHEN f.job_id = m.job_id THEN m.owner ELSE m.others END >> f.state) & 1 = 1
     FROM ledger.effects f WHERE f.tenant = m.tenant AND f.key = m.key),
    m.opens
)
ON CONFLICT (tenant, key) DO UPDATE SET
    job_id = excluded.job_id,
    seq = CASE WHEN excluded.tool = '' THEN e.seq ELSE excluded.seq END,
    lease = CASE WHEN excluded.tool = '' THEN e.lease ELSE excluded.lease END,
    tool = CASE WHEN excluded.tool = '' THEN e.tool ELSE excluded.tool END,
    arguments_digest = CASE WHEN excluded.tool = '' THEN e.arguments_digest ELSE excluded.arguments_digest END,
    state = excluded.state,
    result_digest = CASE
        WHEN excluded.tool = '' THEN coalesce(excluded.result_digest, e.result_digest)
        ELSE excluded.result_digest
    END,
    outcome_seq = excluded.outcome_seq,
    updated_us = excluded.updated_us,
    note_us = CASE WHEN excluded.tool = '' THEN e.note_us END,
    note_verdict = CASE WHEN excluded.tool = '' THEN e.note_verdict END,
    note_source = CASE WHEN excluded.tool = '' THEN e.note_source END,
    note_result = CASE WHEN excluded.tool = '' THEN e.note_result END,
    note_actor = CASE WHEN excluded.tool = '' THEN e.note_actor END,
    note_text = CASE WHEN excluded.tool = '' THEN e.note_text END
WHERE (e.job_id, e.seq, e.outcome_seq) = (
    SELECT f.job_id, f.seq, f.outcome_seq FROM ledger.effects f
    WHERE f.tenant = excluded.tenant AND f.key = excluded.key
);

-- name: effects_named
-- The rows of these keys.
SELECT e.*
FROM unnest($1::text[], $2::text[]) AS k (tenant, key)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.effects e WHERE e.tenant = k.tenant AND e.key = k.key LIMIT 1
) e;

-- name: effects_confirmed
-- The same, for a caller that answers by them. Like `places`, it waits until a standby has what it found.
SELECT e.*, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM unnest($1::text[], $2::text[]) AS k (tenant, key)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.effects e WHERE e.tenant = k.tenant AND e.key = k.key LIMIT 1
) e;

-- name: effects_started
-- The rows that name an intent in a part of a job's chain.
SELECT * FROM ledger.effects e
WHERE e.job_id = $1 AND e.seq BETWEEN $2 AND $3
ORDER BY e.seq, e.key
LIMIT $4;

-- name: unfinished
-- The effects of these jobs that are started and have no outcome, of each job at most $2.
SELECT j.job_id, e.key
FROM unnest($1::uuid[]) AS j (job_id)
CROSS JOIN LATERAL (
    SELECT e.key FROM ledger.effects e WHERE e.job_id = j.job_id AND e.state = 1 ORDER BY e.seq LIMIT $2
) e;

-- name: resolutions
-- The resolutions that wait for the holder of one job, among these keys, until those before a row weigh $5 bytes. $4 is
-- what one weighs beside its result. The states are those of an effect without an outcome.
SELECT p.n, p.key, p.note_us, p.note_verdict, p.note_source, p.note_result, p.note_actor, p.note_text
FROM (
    SELECT k.n, e.*, sum($4::bigint + coalesce(octet_length(e.note_result), 0)) OVER (ORDER BY k.n)
        - $4::bigint - coalesce(octet_length(e.note_result), 0) AS ahead
    FROM unnest($3::text[]) WITH ORDINALITY AS k (key, n)
    CROSS JOIN LATERAL (
        SELECT * FROM ledger.effects e WHERE e.tenant = $1 AND e.key = k.key LIMIT 1
    ) e
    WHERE e.job_id = $2 AND e.state IN (1, 4) AND e.note_us IS NOT NULL
) p
WHERE p.ahead < $5
ORDER BY p.n;

-- name: list_effects
-- A page over several states: the newest rows of each state, merged, so that each state is one walk along the index.
SELECT e.*
FROM unnest($2::smallint[]) AS s (state)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.effects e
    WHERE e.tenant = $1 AND e.state = s.state AND (e.updated_us, e.key) < ($3::bigint, $4::text)
    ORDER BY e.updated_us DESC, e.key DESC
    LIMIT $5
) e
ORDER BY e.updated_us DESC, e.key DESC
LIMIT $5;

-- name: list_job_effects
-- The same for one job.
SELECT * FROM ledger.effects e
WHERE e.job_id = $6 AND e.tenant = $1 AND e.state = ANY ($2::smallint[])
    AND (e.updated_us, e.key) < ($3::bigint, $4::text)
ORDER BY e.updated_us DESC, e.key DESC
LIMIT $5;

-- name: leave_resolution
-- The first resolution stays. The WHERE names the intent that it resolves: a later intent does not get it.
UPDATE ledger.effects e SET
    note_us = $7, note_verdict = $8, note_source = $9, note_result = $10, note_actor = $11, note_text = $12
WHERE e.tenant = $1 AND e.key = $2
    AND e.job_id = $3 AND e.seq = $4 AND e.outcome_seq = $5 AND e.state = $6
    AND e.note_us IS NULL;
