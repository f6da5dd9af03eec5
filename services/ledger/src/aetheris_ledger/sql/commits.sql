-- name: append_commits
-- The parent check is a scalar subquery, because that is always one index probe for each row; as a join or with IN
-- the planner may read the whole table. A lease number never falls along a chain. The first commit has no row before
-- it, and the caller has checked that its parent is zeros. A place that is taken stays as it is and is not returned,
-- and the caller then reads the commit there. The caller sorts the rows, so that two writers lock them in the same
-- order. Nothing follows a terminal commit, and `alone` marks a terminal commit that moves no effect: it is stored only
-- where no effect of its job is started. (One that moves effects is checked by `unfinished` after they have moved.)
-- The LIMIT keeps that check one index probe for each row, too.
--
-- $13 and $14 are the first and the last of the job ids. Partitions outside are left out when the statement begins;
-- without them each partition costs 40 microseconds a statement.
INSERT INTO ledger.commits (seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant, job_key)
SELECT a.seq, a.lease, $7, a.job_id, a.hash, a.body, a.checkpoint, a.terminal, a.tenant, a.job_key
FROM unnest(
    $1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bytea[], $8::boolean[], $9::boolean[],
    $10::boolean[], $11::text[], $12::bytea[]
) AS a (job_id, seq, parent, lease, hash, body, checkpoint, terminal, alone, tenant, job_key)
WHERE (
        a.seq = 1
        OR a.parent = (
            SELECT c.hash FROM ledger.commits c
            WHERE c.job_id = a.job_id AND c.seq = a.seq - 1 AND c.lease <= a.lease AND NOT c.terminal
                AND c.job_id BETWEEN $13 AND $14
        )
    )
    AND (
        NOT a.alone
        OR (SELECT true FROM ledger.effects e WHERE e.job_id = a.job_id AND e.state = 1 LIMIT 1) IS NULL
    )
ON CONFLICT (job_id, seq) DO NOTHING
RETURNING job_id, seq;

-- name: places
-- The commit at each place and the one before it. LIMIT keeps the planner from turning the subqueries into joins.
--
-- The caller answers by what it finds here, and what is found may wait for its standby still: then a failover would take
-- back what was answered. So this statement writes a message to the WAL, once, if it finds anything, and thereby waits
-- until a standby has all that was visible to it.
SELECT p.n, here.lease, here.time_us, here.hash,
    before.lease AS before_lease, before.time_us AS before_time_us, before.hash AS before_hash,
    before.terminal AS before_terminal,
    CASE WHEN here.hash IS NOT NULL OR before.hash IS NOT NULL
        THEN (SELECT pg_logical_emit_message(true, 'aetheris', '')) END AS confirmed
FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS p (job_id, seq, n)
LEFT JOIN LATERAL (
    SELECT c.lease, c.time_us, c.hash FROM ledger.commits c
    WHERE c.job_id = p.job_id AND c.seq = p.seq LIMIT 1
) here ON true
LEFT JOIN LATERAL (
    SELECT c.lease, c.time_us, c.hash, c.terminal FROM ledger.commits c
    WHERE c.job_id = p.job_id AND c.seq = p.seq - 1 LIMIT 1
) before ON true;

-- name: bodies
-- The bodies of single commits.
SELECT p.n, c.body
FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS p (job_id, seq, n)
CROSS JOIN LATERAL (
    SELECT c.body FROM ledger.commits c WHERE c.job_id = p.job_id AND c.seq = p.seq LIMIT 1
) c;

-- name: load_commits
-- A part of each chain, from the commit at `after` on, until the bodies before a row make up $4 bytes. $5 and $6 are the
-- first and the last of the job ids, so that other partitions are left out.
SELECT p.n, p.seq, p.lease, p.time_us, p.hash, p.body, p.job_key
FROM (
    SELECT w.n, c.seq, c.lease, c.time_us, c.hash, c.body, k.job_key,
        sum(octet_length(c.body)) OVER (ORDER BY w.n, c.seq) - octet_length(c.body) AS ahead
    FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS w (job_id, after, n)
    LEFT JOIN LATERAL (
        SELECT k.job_key FROM ledger.commits k
        WHERE k.job_id = w.job_id AND k.job_key IS NOT NULL AND k.job_id BETWEEN $5 AND $6 LIMIT 1
    ) k ON true
    CROSS JOIN LATERAL (
        SELECT c.seq, c.lease, c.time_us, c.hash, c.body FROM ledger.commits c
        WHERE c.job_id = w.job_id AND c.seq >= w.after AND c.job_id BETWEEN $5 AND $6
        ORDER BY c.seq LIMIT $3
    ) c
) p
WHERE p.ahead < $4
ORDER BY p.n, p.seq;

-- name: last_checkpoint
-- The newest commit of a chain that holds a checkpoint.
SELECT c.seq FROM ledger.commits c
WHERE c.job_id = $1 AND c.checkpoint
ORDER BY c.seq DESC LIMIT 1;

-- name: moved_chains
-- Those of many chains that are longer than the caller knows: one statement for all watches.
SELECT m.job_id, m.tail
FROM (
    SELECT w.job_id,
        (SELECT c.seq FROM ledger.commits c
         WHERE c.job_id = w.job_id AND c.seq > w.seq AND c.job_id BETWEEN $3 AND $4
         ORDER BY c.seq DESC LIMIT 1) AS tail
    FROM unnest($1::uuid[], $2::bigint[]) AS w (job_id, seq)
) m
WHERE m.tail IS NOT NULL;

-- name: add_partitions
-- Adds the monthly partitions that are missing up to a moment.
SELECT ledger.add_partitions($1);
